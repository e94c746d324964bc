"""What a paper claims, put to the test: its system against what it says to be better than.

Method. Five folds by subject of a lake; every subject is tested once. Both sides train on the same
folds, by the recipes that the claim names, with the recipes' own numbers of images, and are chosen
and tuned on none of what is tested. Each condition is a change that is done to the test faces
alone. Figures are over all test faces of all folds; intervals by the delete-one-subject jackknife
(in OADN's result, which is older, by the bootstrap over subjects), p by the paired swap test. A
claim that does not hold is written down like one that does.

    python -m benchmarks.claims oadn LAKE
    python -m benchmarks.claims paw SCENES_LAKE
    python -m benchmarks.claims fn2en LAKE --set system.identity_network=RUN

Where five folds of both sides would take a core much longer than a quarter of an hour, the claim
shortens its recipes; `--set` may change both sides further. What was set stands in the result. A
training that fails or is stopped ends the claim; the same command goes on with it.

Of a system that only edits, every fourth test face is edited to every other class, and counted is
what an independent judge of the training subjects reads in it (`trainer.scorecard.judge`). Of one
that transfers, every fourth test face gets every other class from a face of another subject: a
judge reads the expression, another says which of the two subjects the made face is more like.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim_list import CLAIMS, Claim

FOLDS = 5


def trained(recipe: str, lake: Path, seed: int, settings: Mapping[str, Any]) -> list[Path]:
    """The directories of the recipe's runs over all folds; finished ones are taken again.

    KeyboardInterrupt where a run was stopped.
    """
    from trainer import catalog
    from trainer.launch import train, unstopped
    from trainer.overrides import with_overrides

    run = with_overrides(replace(catalog.recipe(recipe), seed=seed), settings)
    found = []
    for fold in (f"{index}/{FOLDS}" for index in range(1, FOLDS + 1)):
        directory = finished(run, lake, fold)
        if directory is None:
            result = unstopped(
                train(run, lake, fold=fold, experiment="claims", validation_only=True)
            )
            print(f"{recipe} {fold}: {result.images_per_second:.0f} images/s", flush=True)
            directory = result.directory
        found.append(directory)
    return found


def finished(run: Any, lake: Path, fold: str) -> Path | None:
    """A finished run of the same settings, lake and fold, so that a broken-off claim goes on."""
    from cluster.home import runs_dir
    from data_service.lakes.lake import Lake
    from trainer import job

    wanted = (run, Lake.open(lake).hash, fold)
    for result in sorted(runs_dir().glob("*/result.json")):
        if job.read_json(result)["status"] != "finished":
            continue
        own = job.load(result.parent)
        if (own.run, own.lake_hash, own.fold) == wanted and own.init is None:
            return result.parent
    return None


def tested(claim: Claim, lake: Path, seed: int, settings: dict[str, str]) -> dict[str, Any]:
    """Both sides over all folds: figures under every condition, and the paired difference."""
    from trainer.scorecard.intervals import paired_difference, subject_intervals
    from trainer.scorecard.statistics import METRICS, macro_recall

    runs = {
        side: trained(recipe, lake, seed, own | settings)
        for side, (recipe, own) in claim.sides().items()
    }
    found: dict[str, Any] = {}
    for name, counts in claim.conditions.items():
        parts = {
            side: np.concatenate(
                [
                    counts(directory, lake, f"{fold}/{FOLDS}")
                    for fold, directory in enumerate(directories, start=1)
                ]
            )
            for side, directories in runs.items()
        }
        card: dict[str, Any] = {
            side: {
                metric: vars_of(interval)
                for metric, interval in subject_intervals(part).items()
                if metric != "macro_f1"
            }
            for side, part in parts.items()
        }
        for metric in (METRICS["accuracy"], macro_recall):
            gap = paired_difference(parts["ours"], parts["peer"], metric)
            card[f"{metric.__name__}_difference"] = vars_of(gap)
        found[name] = card
        print(name, card["accuracy_difference"], card["macro_recall_difference"], flush=True)
    return {"conditions": found, "subjects": len(parts["ours"])}


def vars_of(interval: Any) -> dict[str, float]:
    """A figure with its bounds, as plain values."""
    names = ("value", "low", "high", "p")
    return {name: float(getattr(interval, name)) for name in names if hasattr(interval, name)}


def main() -> None:
    """Test one system's claim and write it down."""
    from benchmarks.photos import environment

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=sorted(CLAIMS))
    parser.add_argument("lake", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    claim = CLAIMS[arguments.system]
    settings = dict(text.split("=", 1) for text in arguments.settings)
    told = {path: Path(value).name for path, value in settings.items()}
    out = arguments.out or Path(f"benchmarks/results/claims_{arguments.system}.json")
    result = {
        "claim": claim.says,
        "ours": claim.ours,
        "peer": claim.peer,
        "corpus": {"name": "drawn", **claim.corpus},
        "folds": FOLDS,
        "seed": arguments.seed,
        "settings": {side: own | told for side, (_, own) in claim.sides().items()},
        **tested(claim, arguments.lake, arguments.seed, settings),
        "environment": environment(),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a paper claims, put to the test: its system against what it says to be better than.

Method. Five folds by subject of a lake; every subject is tested once. Both sides train on the same
folds, by the recipes that the claim names, with the recipes' own numbers of images, and are chosen
and tuned on none of what is tested. Each condition is a change that is done to the test faces
alone. Figures are over all test faces of all folds; intervals and differences by paired bootstrap
over subjects, p by the paired swap test. A claim that does not hold is written down like one that
does.

    python -m benchmarks.claims oadn LAKE
    python -m benchmarks.claims paw SCENES_LAKE
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDS = 5

Change = Callable[[Any], Any]
"""What is done to a test batch (a `FaceBatch`)."""


def hidden_half(batch: Any, half: str) -> Any:
    """Half of every face in black, as behind a headset or a scarf."""
    from trainer.nets.cover import covered, half_mask

    faces_BCHW = batch.faces_BCHW
    mask_HW = half_mask(half, faces_BCHW.shape[-1], 0.5, faces_BCHW.device)  # type: ignore[arg-type]
    return covered(batch, mask_HW, -1.0)


def hidden_block(batch: Any, size: float) -> Any:
    """A grey block over every face, placed by the face's key; its landmarks lose their score."""
    from trainer.nets.cover import block_masks, covered
    from trainer.noise import keyed_uniform

    place_B2 = keyed_uniform(batch.key_B, "claims block", 2)
    return covered(batch, block_masks(place_B2, batch.faces_BCHW.shape[-1], size), 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a system's paper says, and which two recipes show it.

    `corpus` are the options of `mien ingest drawn` for the lake that it is meant for.
    """

    says: str
    ours: str
    peer: str
    corpus: Mapping[str, Any] = field(default_factory=lambda: {"size": 56})
    conditions: Mapping[str, Change | None] = field(default_factory=lambda: {"as it is": None})


CLAIMS: Mapping[str, Claim] = {
    "oadn": Claim(
        says="landmark-guided attention and regions beat their backbone under occlusion",
        ours="oadn.tiny",
        peer="oadn.tiny_backbone",
        conditions={
            "whole faces": None,
            "block of 0.4": partial(hidden_block, size=0.4),
            "block of 0.6": partial(hidden_block, size=0.6),
            "upper half": partial(hidden_half, half="upper"),
            "lower half": partial(hidden_half, half="lower"),
        },
    ),
    "occlusion_distillation": Claim(
        says="a teacher of whole faces helps students of half-hidden ones",
        ours="occlusion_distillation.tiny",
        peer="occlusion_distillation.tiny_without_teacher",
        conditions={"upper half hidden": None},
    ),
    "paw": Claim(
        says="parts and whole read attributes of unaligned faces better than the whole alone",
        ours="paw.tiny",
        peer="paw.tiny_whole",
        corpus={"size": 72, "scenes": True},
    ),
}


def confusions(directory: Path, lake_path: Path, fold: str, change: Change | None) -> np.ndarray:
    """One confusion matrix for each test subject of a fold, subjects in sorted order.

    Of classes, or of attributes: there or not, all attributes together.
    """
    from data_service.lake import Lake
    from trainer import feed
    from trainer.evaluate import predict_rows
    from trainer.restore import load_system
    from trainer.world import World

    loaded, lake = load_system(directory), Lake.open(lake_path)
    rows = np.asarray(feed.prepare(loaded.run, loaded.spec, lake, fold).fold.test_rows)
    if "attributes" in loaded.spec.capabilities:
        return attribute_confusions(loaded, lake, rows, change)
    found = predict_rows(
        loaded.system, lake, rows, loaded.run, loaded.info, World.alone(), change=change
    )
    return found.confusions()


def attribute_confusions(
    loaded: Any, lake: Any, rows: np.ndarray, change: Change | None
) -> np.ndarray:
    """For each subject how often attributes are there (1) or not (0), and are said to be."""
    from trainer.evaluate import evaluation_batch, labels_of
    from trainer.statistics import confusion_by_subject

    batch = evaluation_batch(
        lake, rows, labels_of(lake, rows, loaded.info), loaded.run, loaded.info
    )
    batch = batch if change is None else change(batch)
    assert batch.attributes_BA is not None
    with torch.inference_mode():
        said = [
            loaded.system.predict(batch.slice(start, start + 64)).attributes_BA > 0
            for start in range(0, len(batch), 64)
        ]
    known_BA = torch.isfinite(batch.attributes_BA).numpy()
    subjects = np.array(lake.table["subject"].take(rows).to_pylist(), "U")
    return confusion_by_subject(
        (batch.attributes_BA.numpy() > 0)[known_BA].astype(np.int64),
        torch.cat(said).numpy()[known_BA].astype(np.int64),
        np.broadcast_to(subjects[:, None], known_BA.shape)[known_BA],
        2,
    )


def trained(recipe: str, lake: Path, seed: int) -> list[Path]:
    """The directories of the recipe's runs over all folds; finished ones are taken again."""
    from trainer import catalog
    from trainer.launch import train

    run = replace(catalog.recipe(recipe), seed=seed)
    found = []
    for fold in (f"{index}/{FOLDS}" for index in range(1, FOLDS + 1)):
        directory = finished(run, lake, fold)
        if directory is None:
            result = train(run, lake, fold=fold, experiment="claims")
            print(f"{recipe} {fold}: {result.images_per_second:.0f} images/s", flush=True)
            directory = result.directory
        found.append(directory)
    return found


def finished(run: Any, lake: Path, fold: str) -> Path | None:
    """A finished run of the same settings, lake and fold, so that a broken-off claim goes on."""
    from cluster.home import runs_dir
    from data_service.lake import Lake
    from trainer import job

    wanted = (run, Lake.open(lake).hash, fold)
    for result in sorted(runs_dir().glob("*/result.json")):
        if job.read_json(result)["status"] != "finished":
            continue
        own = job.load(result.parent)
        if (own.run, own.lake_hash, own.fold) == wanted and own.init is None:
            return result.parent
    return None


def tested(claim: Claim, lake: Path, seed: int) -> dict[str, Any]:
    """Both sides over all folds: figures under every condition, and the paired difference."""
    from trainer.statistics import METRICS, macro_recall, paired_bootstrap, subject_bootstrap

    runs, seconds = {}, {}
    for side, recipe in (("ours", claim.ours), ("peer", claim.peer)):
        started = time.monotonic()
        runs[side] = trained(recipe, lake, seed)
        seconds[side] = round(time.monotonic() - started, 1)
    found: dict[str, Any] = {}
    for name, change in claim.conditions.items():
        parts = {
            side: np.concatenate(
                [
                    confusions(directory, lake, f"{fold}/{FOLDS}", change)
                    for fold, directory in enumerate(directories, start=1)
                ]
            )
            for side, directories in runs.items()
        }
        card: dict[str, Any] = {
            side: {
                metric: vars_of(interval)
                for metric, interval in subject_bootstrap(counts).items()
                if metric != "macro_f1"
            }
            for side, counts in parts.items()
        }
        for metric in (METRICS["accuracy"], macro_recall):
            gap = paired_bootstrap(parts["ours"], parts["peer"], metric)
            card[f"{metric.__name__}_difference"] = vars_of(gap)
        found[name] = card
        print(name, card["accuracy_difference"], card["macro_recall_difference"], flush=True)
    return {"conditions": found, "seconds": seconds, "subjects": len(parts["ours"])}


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
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    claim = CLAIMS[arguments.system]
    out = arguments.out or Path(f"benchmarks/results/claims_{arguments.system}.json")
    result = {
        "claim": claim.says,
        "ours": claim.ours,
        "peer": claim.peer,
        "corpus": {"name": "drawn", **claim.corpus},
        "folds": FOLDS,
        "seed": arguments.seed,
        **tested(claim, arguments.lake, arguments.seed),
        "environment": environment(),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

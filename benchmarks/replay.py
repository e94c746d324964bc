"""How much of an exhaustive search does pruning spare, and does it lose the best? A replay.

    python -m benchmarks.replay fill LAKE --hours 5     train what the table lacks; go on any time
    python -m benchmarks.replay replay                  search in the table, 200 times

`fill` trains every setting of a grid in every fold of a short `fersnet.small_single_task`, with a
process for each core, on `photos` (as benchmarks/photos.py makes it), whose subjects each validate
in one of the ten folds, and keeps, after each training, what it said of every subject. Later fills
go on where the last one stopped.

`replay` takes the settings in a random order and trains them one after another, which costs what
the table says: fold by fold, giving a setting up where the rule says so.

- paired: this project's test over subjects against the best so far, after each fold.
- search: that, and this project's rule for learning curves, both as in `tuning.pruning`. The table
  holds no curves: a fold's end stands for its curve, so the fold that is given up is paid in full.
- asha: rungs of 1, 2, 4 and all folds; a setting goes on if it is in the best half of its rung.
- median: given up below the median of those before after as many folds.
- random: as many settings, in all folds, as the trainings of `search` pay for.

Of each: how far the setting that it ends with lies below the best of the table (mean of all folds),
its trainings as a share of all, and how often the best was given up. Of the table: how far its best
setting lies above its median one, over all subjects. The same machine did other work while the
table was filled, so its seconds say little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.photos import environment
from cluster.resources import usable_cpus
from data_service.folds import ALL
from trainer.scorecard.intervals import paired_difference
from trainer.scorecard.statistics import macro_recall
from tuning.objectives import Objective
from tuning.pruning import lags_behind, loses_on_folds, paired_subjects
from tuning.results import FoldRecord, TrialRecord

RECIPE = "fersnet.small_single_task"
SHORT: Mapping[str, Any] = {
    "system.network.stem_channels": 8,
    "system.network.recognition_channels": (16, 32, 64),
    "system.ema_halflife_images": 1000,
    "system.images": 2560,
    "data.image_size": 32,
}
"""What makes a training of some seconds of the recipe: half as wide, a tenth of the images."""
FOLDS = 10
GRID: Mapping[str, tuple[Any, ...]] = {
    "system.optimizer.learning_rate": (4e-4, 1.2e-3, 4e-3, 1.2e-2, 4e-2),
    "system.class_power": (0.0, 0.5),
    "system.label_smoothing": (0.0, 0.3),
    "data.augment.erase": (0.0, 0.3),
}
"""40 settings; the outer learning rates are far from good."""
RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")
RUNGS = (1, 2, 4)
ASKED = {"median_gap": 0.005, "median_share": 0.5, "best_lost": 0.05, "best_above_median": 0.03}

Rule = Callable[[TrialRecord, Sequence[TrialRecord], int], bool]
"""Whether a trial that has finished some of so many folds is given up, given those that ended."""


def grid() -> list[dict[str, Any]]:
    """Every setting of the grid."""
    return [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]


def read_table(path: Path) -> list[TrialRecord]:
    """The settings of the table, each with the folds that it has."""
    rows = json.loads(path.read_text())["settings"] if path.exists() else []
    return [
        TrialRecord(
            number=number,
            params=row["params"],
            folds={int(k): _with_end(FoldRecord.from_json(v)) for k, v in row["folds"].items()},
        )
        for number, row in enumerate(rows)
    ]


def _with_end(fold: FoldRecord) -> FoldRecord:
    """The fold's end as the one point of its curve."""
    return replace(fold, curve=((SHORT["system.images"], fold.values["macro_recall"]),))


def write_table(path: Path, trials: Sequence[TrialRecord]) -> None:
    """The table as JSON, in place only when whole."""
    rows = [
        {
            "params": dict(trial.params),
            "folds": {
                str(index): replace(fold, curve=()).as_json() for index, fold in trial.folds.items()
            },
        }
        for trial in trials
    ]
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({"recipe": RECIPE, "num_folds": FOLDS, "settings": rows}))
    draft.replace(path)


def fill(path: Path, lake: Path, hours: float) -> None:
    """Train what the table lacks, fold by fold over all settings, until the time is over."""
    ends = time.monotonic() + 3600 * hours
    known = {repr(trial.params): trial for trial in read_table(path)}
    trials = [
        known.get(repr(params), TrialRecord(number=number, params=params))
        for number, params in enumerate(grid())
    ]
    places = itertools.product(range(1, FOLDS + 1), range(len(trials)))
    lacking = [place for place in places if place[0] not in trials[place[1]].folds]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cpus(), mp_context=spawn) as pool:
        waiting = {
            pool.submit(train_one, lake, fold, trials[number].params, ends): (fold, number)
            for fold, number in lacking
        }
        for done in as_completed(waiting):
            fold, number = waiting[done]
            record = done.result()
            if record is not None:
                trials[number] = trials[number].with_fold(fold, record)
                write_table(path, trials)
                print(number, fold, record.values, f"{record.seconds:.0f} s", flush=True)


def train_one(lake: Path, fold: int, params: Mapping[str, Any], ends: float) -> FoldRecord | None:
    """One setting in one fold, by one thread; None when the time is over."""
    import torch

    from trainer import catalog
    from trainer.launch import train
    from trainer.overrides import with_overrides
    from tuning.setup import trial_run
    from tuning.space import with_setting
    from tuning.trial import subjects_of

    if time.monotonic() > ends:
        return None
    torch.set_num_threads(1)
    began = time.monotonic()
    run = with_setting(trial_run(with_overrides(catalog.recipe(RECIPE), SHORT)), params)
    done = train(run, lake, fold=f"{ALL}:{fold}/{FOLDS}", experiment="replay", validation_only=True)
    return FoldRecord(
        values={"macro_recall": done.validation["macro_recall"]},
        seconds=time.monotonic() - began,
        subjects=subjects_of(done.directory, "macro_recall"),
    )


def paired(trial: TrialRecord, ended: Sequence[TrialRecord], num_folds: int) -> bool:
    """The project's test alone."""
    return loses_on_folds(trial, ended, RECALL, num_folds)


def both(trial: TrialRecord, ended: Sequence[TrialRecord], num_folds: int) -> bool:
    """All that the project prunes by."""
    return paired(trial, ended, num_folds) or lags_behind(trial, max(trial.folds), ended, RECALL)


def asha(trial: TrialRecord, ended: Sequence[TrialRecord], num_folds: int) -> bool:
    """Successive halving over folds, asynchronous: by those that reached the rung before."""
    done = len(trial.folds)
    if done not in RUNGS:
        return False
    reached = [_mean(past, done) for past in ended if len(past.folds) >= done]
    better = sum(value > _mean(trial, done) for value in reached)
    return better >= (len(reached) + 1) / 2


def median(trial: TrialRecord, ended: Sequence[TrialRecord], num_folds: int) -> bool:
    """Below the median of those that were trained to their end, after as many folds."""
    done = len(trial.folds)
    complete = [_mean(past, done) for past in ended if past.state == "COMPLETE"]
    return len(complete) >= 4 and _mean(trial, done) < float(np.median(complete))


def _mean(trial: TrialRecord, folds: int) -> float:
    values = [trial.folds[index].values["macro_recall"] for index in sorted(trial.folds)[:folds]]
    return float(np.mean(values))


RULES: Mapping[str, Rule] = {"search": both, "paired": paired, "asha": asha, "median": median}


def searched(
    table: Sequence[TrialRecord], order: Sequence[int], rule: Rule
) -> tuple[int, list[TrialRecord]]:
    """The number of the setting that a search in this order ends with, and its trials."""
    num_folds = len(table[0].folds)
    ended: list[TrialRecord] = []
    for number in order:
        trial = replace(table[number], folds={})
        state = "COMPLETE"
        for fold in sorted(table[number].folds):
            trial = trial.with_fold(fold, table[number].folds[fold])
            if len(trial.folds) < num_folds and rule(trial, ended, num_folds):
                state = "PRUNED"
                break
        ended.append(replace(trial, state=state))  # pyright: ignore[reportArgumentType]
    complete = [trial for trial in ended if trial.state == "COMPLETE"]
    return max(complete, key=lambda trial: trial.values["macro_recall"]).number, ended


def replayed(table: Sequence[TrialRecord], replays: int) -> dict[str, dict[str, float]]:
    """Each rule over the same random orders: gap to the best, share of the trainings, best lost."""
    truth = np.array([trial.values["macro_recall"] for trial in table])
    best, num_folds = int(truth.argmax()), len(table[0].folds)
    found: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in (*RULES, "random")}
    for seed in range(replays):
        order = np.random.default_rng(seed).permutation(len(table)).tolist()
        for name, rule in RULES.items():
            chosen, ended = searched(table, order, rule)
            share = sum(len(trial.folds) for trial in ended) / (len(table) * num_folds)
            lost = any(trial.number == best and trial.state == "PRUNED" for trial in ended)
            found[name].append((truth[best] - truth[chosen], share, lost))
        affordable = order[: max(1, int(found["search"][-1][1] * len(table)))]
        gap = truth[best] - truth[affordable].max()
        found["random"].append((gap, len(affordable) / len(table), best not in affordable))
    return {
        name: {
            "median_gap": round(float(np.median([row[0] for row in rows])), 4),
            "within_half_a_point": float(np.mean([row[0] <= 0.005 for row in rows])),
            "median_share": round(float(np.median([row[1] for row in rows])), 4),
            "best_lost": float(np.mean([row[2] for row in rows])),
        }
        for name, rows in found.items()
    }


def spread(table: Sequence[TrialRecord]) -> dict[str, Any]:
    """How far the best setting lies above the median one: mean of the folds, and over all subjects
    pooled, with its 95 % interval."""
    ordered = sorted(table, key=lambda trial: trial.values["macro_recall"])
    best, middle = ordered[-1], ordered[len(ordered) // 2]
    pairs = paired_subjects(best, middle)
    assert pairs is not None
    pooled = paired_difference(*pairs, macro_recall)
    values = [trial.values["macro_recall"] for trial in (best, middle, ordered[0])]
    return {
        "best": dict(best.params),
        "best_median_worst": [round(value, 4) for value in values],
        "best_above_median": round(values[0] - values[1], 4),
        "pooled": {name: round(getattr(pooled, name), 4) for name in ("value", "low", "high", "p")},
    }


def main() -> None:
    """Fill the table, or search in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fill", "replay"])
    parser.add_argument("lake", type=Path, nargs="?")
    parser.add_argument("--hours", type=float, default=5.0)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--table", type=Path, default=Path("benchmarks/results/replay_table.json"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/replay.json"))
    arguments = parser.parse_args()
    if arguments.what == "fill":
        if arguments.lake is None:
            parser.error("fill needs a LAKE")
        fill(arguments.table, arguments.lake, arguments.hours)
        return
    table = [trial for trial in read_table(arguments.table) if len(trial.folds) == FOLDS]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not table:
        parser.error(f"{arguments.table} has no setting with all {FOLDS} folds; fill it first")
    results: dict[str, Any] = {"settings": len(table), "folds": FOLDS, "replays": arguments.replays}
    results |= spread(table)
    results["rules"] = replayed(table, arguments.replays)
    results["asked"] = ASKED
    results["environment"] = environment()
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

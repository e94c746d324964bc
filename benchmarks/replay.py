"""How much of an exhaustive search does pruning spare, and does it lose the best? A replay.

    python -m benchmarks.replay fill LAKE --table NAME --hours 5     what it lacks; go on any time
    python -m benchmarks.replay replay                               search in the tables, 200 times

`fill` trains every setting of a grid in every fold of a short training, with a process for each
core, on `photos` (as benchmarks/photos.py makes it), whose subjects each validate in one of the ten
folds, and keeps what each training said of every subject. Later fills go on where the last stopped.

- fersnet: a short `fersnet.small_single_task`. The rule that prunes was chosen among six with sight
  of this table. It holds no learning curves.
- baseline: a short `baseline.small`, another network, filled after the rule was settled, with the
  curves of a search: three points and the end. It showed that earlier points than the end, which
  the first table does not have, lose the best in half of the replays, as rates that learn slowly
  end best; since then the rule counts ends alone. What it spares and loses by these, this table had
  no part in choosing.

`replay` takes the settings in a random order and trains them one after another, which costs what
the table says, giving a setting up where the rule says so.

- paired: this project's test over subjects against the best so far, after each fold.
- search: that, and this project's rule for what lags behind the median, after each fold: both as in
  `tuning.pruning`, asked as `tuning.study.Study` asks them.
- asha: rungs of 1, 2, 4 and all folds; a setting goes on if it is in the best half of its rung.
- median: given up below the median of those before after as many folds.
- random: as many settings, in all folds, as the trainings of `search` pay for.

Of each: how far the setting that it ends with lies below the best of the table (mean of all folds),
its trainings as a share of all, and how often the best was given up. Rules spend
differently: their shares stand beside their gaps. Of the table: how far its best setting lies above
its median one, over all subjects; the same where both are picked in five folds and compared in the
other five, since a best one that is picked and judged on the same subjects flatters itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
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

FOLDS = 10
LEAST_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A short training of some seconds, and the 40 settings that it is done with."""

    recipe: str
    short: Mapping[str, Any]
    grid: Mapping[str, tuple[Any, ...]]

    @property
    def images(self) -> int:
        """Of one training."""
        return self.short["system.images"]

    def settings(self) -> list[dict[str, Any]]:
        """Every setting of the grid."""
        values = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, one, strict=True)) for one in values]


RATES = (4e-4, 1.2e-3, 4e-3, 1.2e-2, 4e-2)
"""The outer ones are far from good."""
TASKS: Mapping[str, Task] = {
    "fersnet": Task(
        recipe="fersnet.small_single_task",
        short={
            "system.network.stem_channels": 8,
            "system.network.recognition_channels": (16, 32, 64),
            "system.ema_halflife_images": 1000,
            "system.images": 2560,
            "data.image_size": 32,
        },
        grid={
            "system.optimizer.learning_rate": RATES,
            "system.class_power": (0.0, 0.5),
            "system.label_smoothing": (0.0, 0.3),
            "data.augment.erase": (0.0, 0.3),
        },
    ),
    "baseline": Task(
        recipe="baseline.small",
        short={
            "system.network.plain_channels": (16, 32, 64),
            "system.images": 3072,
            "data.image_size": 32,
            "evaluation.every_images": 768,
        },
        grid={
            "system.optimizer.learning_rate": RATES,
            "system.class_power": (0.0, 0.5),
            "system.network.dropout": (0.0, 0.5),
            "data.augment.brightness": (0.0, 0.4),
        },
    ),
}
RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")
RUNGS = (1, 2, 4)
RESULTS = Path("benchmarks/results")
ASKED = {"median_gap": 0.005, "median_share": 0.5, "best_lost": 0.05, "best_above_median": 0.03}

Rule = Callable[[TrialRecord, Sequence[TrialRecord], int], bool]
"""Whether a trial that has finished some of so many folds is given up, given those that ended."""


def read_table(path: Path) -> list[TrialRecord]:
    """The settings of the table, each with the folds that it has."""
    rows = json.loads(path.read_text())["settings"] if path.exists() else []
    return [
        TrialRecord(
            number=number,
            params=row["params"],
            folds={int(key): FoldRecord.from_json(fold) for key, fold in row["folds"].items()},
        )
        for number, row in enumerate(rows)
    ]


def write_table(path: Path, recipe: str, trials: Sequence[TrialRecord]) -> None:
    """The table as JSON, in place only when whole."""
    rows = [
        {
            "params": dict(trial.params),
            "folds": {str(index): fold.as_json() for index, fold in trial.folds.items()},
        }
        for trial in trials
    ]
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({"recipe": recipe, "num_folds": FOLDS, "settings": rows}))
    draft.replace(path)


def fill(path: Path, name: str, lake: Path, hours: float) -> None:
    """Train what the table lacks, fold by fold over all settings, until the time is over."""
    ends, task = time.monotonic() + 3600 * hours, TASKS[name]
    known = {repr(trial.params): trial for trial in read_table(path)}
    trials = [
        known.get(repr(params), TrialRecord(number=number, params=params))
        for number, params in enumerate(task.settings())
    ]
    places = itertools.product(range(1, FOLDS + 1), range(len(trials)))
    lacking = [place for place in places if place[0] not in trials[place[1]].folds]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cpus(), mp_context=spawn) as pool:
        waiting = {
            pool.submit(train_one, name, lake, fold, trials[number].params, ends): (fold, number)
            for fold, number in lacking
        }
        for done in as_completed(waiting):
            fold, number = waiting[done]
            record = done.result()
            if record is not None:
                trials[number] = trials[number].with_fold(fold, record)
                write_table(path, task.recipe, trials)
                print(number, fold, record.values, f"{record.seconds:.0f} s", flush=True)


def train_one(
    name: str, lake: Path, fold: int, params: Mapping[str, Any], ends: float
) -> FoldRecord | None:
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
    began, curve = time.monotonic(), []

    def note(images: int, metrics: Mapping[str, float]) -> bool:
        curve.append((images, metrics["macro_recall"]))
        return False

    recipe = with_overrides(catalog.recipe(TASKS[name].recipe), TASKS[name].short)
    done = train(
        with_setting(trial_run(recipe), params),
        lake,
        fold=f"{ALL}:{fold}/{FOLDS}",
        experiment="replay",
        validation_only=True,
        on_validation=note,
    )
    return FoldRecord(
        values={"macro_recall": done.validation["macro_recall"]},
        curve=tuple(curve),
        seconds=time.monotonic() - began,
        subjects=subjects_of(done.directory, "macro_recall"),
    )


def paired(trial: TrialRecord, ended: Sequence[TrialRecord], num_folds: int) -> bool:
    """The project's test alone."""
    return loses_on_folds(trial, ended, RECALL, num_folds)


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


def both(trial: TrialRecord, ended: Sequence[TrialRecord], num_folds: int) -> bool:
    """What a search asks after each fold (`tuning.study.Study`)."""
    return paired(trial, ended, num_folds) or lags_behind(trial, ended, RECALL)


RULES: Mapping[str, Rule] = {"search": both, "paired": paired, "asha": asha, "median": median}


def trained(setting: TrialRecord, ended: Sequence[TrialRecord], name: str) -> TrialRecord:
    """A setting until the rule gives it up, or to its end."""
    trial, num_folds = replace(setting, folds={}), len(setting.folds)
    for fold in sorted(setting.folds):
        trial = trial.with_fold(fold, setting.folds[fold])
        if len(trial.folds) < num_folds and RULES[name](trial, ended, num_folds):
            return replace(trial, state="PRUNED")
    return replace(trial, state="COMPLETE")


def searched(
    table: Sequence[TrialRecord], order: Sequence[int], name: str
) -> tuple[int, list[TrialRecord]]:
    """The setting that a search in this order ends with, and its trials."""
    ended: list[TrialRecord] = []
    for number in order:
        ended.append(trained(table[number], ended, name))
    complete = [trial for trial in ended if trial.state == "COMPLETE"]
    return max(complete, key=lambda trial: trial.values["macro_recall"]).number, ended


def replayed(table: Sequence[TrialRecord], replays: int) -> dict[str, dict[str, float]]:
    """Each rule over the same random orders: gap to the best, share of the trainings, best lost."""
    truth = np.array([trial.values["macro_recall"] for trial in table])
    best, whole = int(truth.argmax()), len(table) * len(table[0].folds)
    found: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in (*RULES, "random")}
    for seed in range(replays):
        order = np.random.default_rng(seed).permutation(len(table)).tolist()
        for name in RULES:
            chosen, ended = searched(table, order, name)
            paid = sum(len(trial.folds) for trial in ended)
            lost = any(trial.number == best and trial.state == "PRUNED" for trial in ended)
            found[name].append((truth[best] - truth[chosen], paid / whole, lost))
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
    pooled, with its 95 % interval; and so where other folds chose the two."""
    best, middle, worst = ranked(table)
    values = [trial.values["macro_recall"] for trial in (best, middle, worst)]
    chosen = [one.number for one in ranked([_in_folds(one, 1) for one in table])[:2]]
    return {
        "best": dict(best.params),
        "best_median_worst": [round(value, 4) for value in values],
        "best_above_median": round(values[0] - values[1], 4),
        "pooled": pooled(best, middle),
        "pooled_in_folds_that_did_not_choose": pooled(*(_in_folds(table[i], 0) for i in chosen)),
    }


def ranked(table: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The best setting, the median one, and the worst."""
    ordered = sorted(table, key=lambda trial: -trial.values["macro_recall"])
    return [ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]]


def _in_folds(trial: TrialRecord, odd: int) -> TrialRecord:
    folds = {index: fold for index, fold in trial.folds.items() if index % 2 == odd}
    return replace(trial, folds=folds)


def pooled(better: TrialRecord, worse: TrialRecord) -> dict[str, float]:
    """Their difference over all subjects of their folds."""
    pairs = paired_subjects(better, worse)
    assert pairs is not None
    found = paired_difference(*pairs, macro_recall)
    return {name: round(getattr(found, name), 4) for name in ("value", "low", "high", "p")}


def in_shared_folds(table: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The settings in the folds that all of them have."""
    shared = set.intersection(*(set(trial.folds) for trial in table)) if table else set()
    return [
        replace(trial, folds={index: trial.folds[index] for index in sorted(shared)})
        for trial in table
    ]


def table_path(name: str) -> Path:
    """Where a task's table lies."""
    return RESULTS / f"replay_table_{name}.json"


def main() -> None:
    """Fill a table, or search in those that are whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fill", "replay"])
    parser.add_argument("lake", type=Path, nargs="?")
    parser.add_argument("--table", choices=list(TASKS), default="baseline")
    parser.add_argument("--hours", type=float, default=5.0)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS / "replay.json")
    arguments = parser.parse_args()
    if arguments.what == "fill":
        if arguments.lake is None:
            parser.error("fill needs a LAKE")
        fill(table_path(arguments.table), arguments.table, arguments.lake, arguments.hours)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results: dict[str, Any] = {"replays": arguments.replays, "asked": ASKED}
    for name, task in TASKS.items():
        table = in_shared_folds(read_table(table_path(name)))
        if len(table) < len(task.settings()) or len(table[0].folds) < LEAST_FOLDS:
            parser.error(f"{table_path(name)} has less than {LEAST_FOLDS} whole folds; fill it")
        results[name] = {
            "settings": len(table),
            "folds": len(table[0].folds),
            **spread(table),
            "rules": replayed(table, arguments.replays),
        }
    results["environment"] = environment()
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

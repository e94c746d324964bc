"""What must hold for a run, or a search, that something happened to.

python -m benchmarks.chaos.invariants RUN REFERENCE     names what does not, as a JSON list
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks.chaos.commands import STUDY, TRIALS

Point = tuple[str, int, float]


def broken_by_training(folder: Path, reference: Path) -> list[str]:
    """The invariants that do not hold for a finished run, beside one that nobody disturbed."""
    found = []
    left, right = (load_file(path / "weights.safetensors") for path in (folder, reference))
    if left.keys() != right.keys() or any(not left[key].equal(right[key]) for key in left):
        found.append("the final weights differ")
    if told_ledger(folder) != planned_ledger(folder):
        found.append("the ledger is not that of the plan")
    own = points(folder)
    if own != points(reference):
        found.append("MLflow has other points")
    if len(own) != len({point[:2] for point in own}):
        found.append("MLflow has a point twice")
    return found


def broken_by_search(home: Path, reference: Path) -> list[str]:
    """The invariants that do not hold for a finished search, and for each of its trainings."""
    left, right = trials(home), trials(reference)
    if [trial[:3] for trial in left] != [trial[:3] for trial in right] or len(left) != TRIALS:
        return ["the trials differ"]
    return [
        f"trial {number}: {what}"
        for number, (mine, theirs) in enumerate(zip(left, right, strict=True))
        for what in broken_by_training(home / "runs" / mine[3], reference / "runs" / theirs[3])
    ]


def broken_by_filling(pool: Path, reference: Path) -> list[str]:
    """The invariants that do not hold for a sealed pool: it is the same, byte for byte."""
    left, right = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (pool, reference)
    )
    return [] if left == right else ["the pools differ"]


def trials(home: Path) -> list[tuple[Any, ...]]:
    """Settings, state, values and run of each trial of the search."""
    from tuning.stored import read_study

    records, _ = read_study(home / "studies" / f"{STUDY}.db", STUDY)
    return [
        (dict(one.params), one.state, dict(fold.values), fold.run_id)
        for one in records
        for fold in one.folds.values()
    ]


def told_ledger(folder: Path) -> int:
    """What the run says that its samples add up to."""
    from trainer.job import read_json

    return read_json(folder / "result.json")["ledger"]


def planned_ledger(folder: Path) -> int:
    """What they must add up to, by the plan."""
    from data_service.lakes.lake import Lake
    from trainer import catalog, feed, job, ledger

    own = job.load(folder)
    lake, spec = Lake.open(own.lake), catalog.load(own.run.system_name)
    data = feed.prepare(own.run, spec, lake, own.fold)
    stages = spec.build(own.run.system, data.info).stages()
    return ledger.of_plan(feed.plan_of(own.run, data, lake, stages, None))


def points(folder: Path) -> list[Point]:
    """What MLflow has of the run's training: (term, images, value), as often as it has it."""
    from cluster.mlflow_store import ensure_store

    client = ensure_store(_store(folder.parents[1]))
    keys = [key for key in client.get_run(folder.name).data.metrics if key.startswith("train/")]
    history = [point for key in keys for point in client.get_metric_history(folder.name, key)]
    return sorted((point.key, point.step, point.value) for point in history)


def _store(home: Path) -> str:
    """The database behind whatever the home's runs are tracked through."""
    from cluster import postgres

    own = home / "postgres"
    return postgres.address(own) if postgres.exists(own) else f"sqlite:///{home / 'mlflow.db'}"


if __name__ == "__main__":
    print(json.dumps(broken_by_training(*map(Path, sys.argv[1:3]))))

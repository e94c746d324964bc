"""A trained run on a lake: on another one every face, on its own the test subjects alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from data_service.lake import Lake
from trainer import feed
from trainer import job as jobs
from trainer.evaluate import predict_rows, scorecard
from trainer.restore import LoadedSystem, load_system
from trainer.world import World


def retest(run: str, lake: Path) -> dict[str, Any]:
    """The scorecard of a trained run on the faces of `lake` that show one of the run's classes.

    ValueError when the run does not recognise, or the lake has none of its classes, or faces that
    are smaller than what the run saw.
    """
    began = time.monotonic()
    loaded = load_system(run)
    opened = Lake.open(lake)
    if "recognise" not in loaded.spec.capabilities:
        raise ValueError(f"{loaded.spec.name} does not recognise; there is nothing to evaluate")
    rows_N = _rows(loaded, opened)
    world = World.alone()
    predict_rows(loaded.system, opened, rows_N[:1], loaded.run, loaded.info, world)
    first = time.monotonic()
    found = predict_rows(loaded.system, opened, rows_N, loaded.run, loaded.info, world)
    seconds = time.monotonic() - first
    return {
        "run_id": loaded.directory.name,
        "lake": str(lake),
        "lake_hash": opened.hash,
        "images_per_second": len(rows_N) / seconds,
        "first_step_seconds": first - began,
        **scorecard(found, [str(name) for name in loaded.info.classes], seed=loaded.run.seed),
    }


def _rows(loaded: LoadedSystem, lake: Lake) -> np.ndarray:
    """Rows that may be tested: no subject it trained on, no class it does not know."""
    classes = [str(name) for name in loaded.info.classes]
    job = jobs.load(loaded.directory)
    if lake.hash == job.lake_hash:
        return np.asarray(feed.split(lake, job.fold, loaded.info.classes).test_rows)
    expressions = lake.table["expression"].to_pylist()
    rows_N = np.flatnonzero([name in classes for name in expressions])
    if not len(rows_N):
        raise ValueError(f"{lake.path} has no face of {', '.join(classes)}, the run's classes")
    return rows_N

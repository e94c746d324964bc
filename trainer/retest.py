"""A trained run on a lake: on its own the test subjects alone, on another whom it never saw, as far
as the lakes that it learnt from are still there to tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_service.folds import Fold
from data_service.lakes import columns
from data_service.lakes.lake import Lake
from trainer import feed
from trainer import job as jobs
from trainer.ancestry import unchecked, unseen_rows
from trainer.job import Job
from trainer.pictures import write_png
from trainer.restore import LoadedSystem, best_device, load_system
from trainer.scorecard.evaluate import Predictions, predict_rows, scorecard
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.galleries import gallery
from trainer.scorecard.measures import measure
from trainer.tracking.report import record_evaluation
from trainer.world import World

_LOG = logging.getLogger(__name__)
_LOOK_ROWS = 4096
"""Rows that are looked through at a time."""


def retest(run: str, lake: Path, *, full: bool = False) -> dict[str, Any]:
    """All cards of a trained run on the faces of `lake` that show one of the run's classes, or on
    all of them where its system needs no classes.

    `full` adds occlusions, the gain by synthetic faces, and more edits. Pictures are written below
    the run's directory; figures and pictures also go into the run's record in MLflow, under the
    lake's name. ValueError where the lake has none of the run's classes, or nobody whom the run has
    not learnt from, or none of the attributes that the run tells, or faces that are smaller than
    what the run saw or have other channels, or where the run makes faces and the lake that it was
    trained on, which its judges need, is gone.
    """
    began = time.monotonic()
    loaded = load_system(run, best_device())
    job = jobs.load(loaded.directory)
    examinee = examinee_of(loaded, job, Lake.open(lake))
    values: dict[str, Any] = {
        "run_id": loaded.directory.name,
        "lake": str(lake),
        "lake_hash": examinee.lake.hash,
        "faces_left_out": len(examinee.lake) - len(examinee.rows_N),
    }
    unknown = _unchecked(loaded, job, examinee.lake)
    if unknown:
        values["unchecked"] = unknown
        _LOG.warning("whom it learnt from cannot be looked into: %s", unknown)
    predictions, card = None, None
    if examinee.can("recognise"):
        predictions, speed = _predicted(examinee, began)
        card = scorecard(
            predictions, [str(name) for name in loaded.info.classes], seed=loaded.run.seed
        )
        values |= speed | card
    values["measures"] = measure(examinee, predictions, "full" if full else "usual")
    pictures = gallery(examinee, predictions)
    values["pictures"] = _written(pictures, job.directory / "evaluation" / examinee.lake.path.name)
    values["not_in_mlflow"] = record_evaluation(
        job, examinee.lake.path.name, card, values["measures"], pictures, unknown
    )
    return values


def _unchecked(loaded: LoadedSystem, job: Job, lake: Lake) -> str:
    """What may have seen those who are tested; on the run's own lake training has told already."""
    if lake.hash == job.lake_hash:
        return ""
    return unchecked([loaded.directory / "weights.safetensors"], lake)


def _written(pictures: Mapping[str, np.ndarray], folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        write_png(picture, folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in pictures]


def examinee_of(loaded: LoadedSystem, job: Job, lake: Lake) -> Examinee:
    """The run's system with the faces of the lake that may be tested."""
    lake.require_size(loaded.run.data.image_size)
    loaded.require_channels(lake)
    own = lake.hash == job.lake_hash
    judged = "synthesise" in loaded.spec.capabilities
    home = Lake.open(job.lake) if judged and not own else lake
    if judged and home.hash != job.lake_hash:
        raise ValueError(
            f"{job.lake} is no longer the lake that run {job.run_id} was trained on, by which its "
            "judges are trained"
        )
    fold = feed.split(home, job.fold, loaded.info.classes) if own or judged else None
    rows_N = _rows(loaded, fold if own else None, lake)
    _require_attributes(loaded, lake, rows_N)
    return Examinee(
        system=loaded.system,
        spec=loaded.spec,
        run=loaded.run,
        info=loaded.info,
        lake=lake,
        rows_N=rows_N,
        home_lake=home,
        train_rows_N=np.empty(0, np.int64) if fold is None else np.asarray(fold.train_rows),
        device=loaded.device,
    )


def _predicted(examinee: Examinee, began: float) -> tuple[Predictions, dict[str, float]]:
    world = World.alone(str(examinee.device))
    rest = (examinee.run, examinee.info, world)
    predict_rows(examinee.system, examinee.lake, examinee.rows_N[:1], *rest)
    first = time.monotonic()
    found = predict_rows(examinee.system, examinee.lake, examinee.rows_N, *rest)
    seconds = time.monotonic() - first
    return found, {
        "images_per_second": len(found) / seconds,
        "first_step_seconds": first - began,
    }


def _rows(loaded: LoadedSystem, fold: Fold | None, lake: Lake) -> np.ndarray:
    """Rows that may be tested: no subject it learnt from, no class it does not know; every other
    face of another lake for a run without classes, or whose system needs none."""
    if fold is not None:
        return np.asarray(fold.test_rows)
    rows_N = np.arange(len(lake))
    classes = [str(name) for name in loaded.info.classes]
    if classes and not loaded.spec.capabilities <= feed.WITHOUT_CLASSES:
        rows_N = rows_N[np.isin(np.asarray(lake.table["expression"].to_pylist(), str), classes)]
    if not len(rows_N):
        raise ValueError(f"{lake.path} has no face of {', '.join(classes)}, the run's classes")
    rows_N = unseen_rows(loaded.directory / "weights.safetensors", lake, rows_N)
    if not len(rows_N):
        raise ValueError(
            f"run {loaded.directory.name} has learnt from everybody in {lake.path}; "
            "evaluate it on the lake that it was trained on, or on other people"
        )
    return rows_N


def _require_attributes(loaded: LoadedSystem, lake: Lake, rows_N: np.ndarray) -> None:
    """ValueError where nothing that the run tells is known of any of the rows."""
    if "attributes" not in loaded.spec.capabilities:
        return
    table, names = lake.table.select(["attributes"]), loaded.info.attributes
    parts = (
        table.take(rows_N[start : start + _LOOK_ROWS])
        for start in range(0, len(rows_N), _LOOK_ROWS)
    )
    if not any(np.isfinite(columns.attributes(part, names)).any() for part in parts):
        raise ValueError(
            f"the faces of {lake.path} to be tested have none of the attributes that run "
            f"{loaded.directory.name} tells: {', '.join(names)}"
        )

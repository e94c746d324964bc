"""The end of a run, for MLflow: figures with intervals, pictures, settings, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.job import Job, read_json
from trainer.pictures import confusion_picture
from trainer.scorecard.evaluate import read_predictions
from trainer.scorecard.measures import flat
from trainer.tracking.moved import told_now
from trainer.tracking.outbox import Outbox
from trainer.tracking.tracker import Tracker, TrackingError, add_to_run

FIGURES = ("accuracy", "macro_recall", "macro_f1", "calibration_error")
_LAST = "final/first_step_seconds"
"""What is told last of every run: once it is certain, all is."""


def report(tracker: Tracker, job: Job, result: Mapping[str, Any]) -> None:
    """Everything that `result.json` says, and the files of the run."""
    images = result["images"]
    for name in ("run.json", "result.json", "predictions.npz", "validation.npz"):
        if (job.directory / name).exists():
            tracker.artifact(job.directory / name)
    if (job.directory / "weights.safetensors").exists():
        tracker.artifact(job.directory / "weights.safetensors", "checkpoint")
    report_measures(tracker, result["measures"], images)
    if result["scorecard"] is not None:
        report_scorecard(tracker, result["scorecard"], images)
    metrics = {f"final/{name}": value for name, value in result["validation"].items()}
    if (job.directory / "validation.npz").exists():
        metrics["final/num_faces"] = len(read_predictions(job.directory / "validation.npz"))
    metrics["final/images_per_second"] = result["images_per_second"]
    metrics[_LAST] = result["first_step_seconds"]
    tracker.metrics(metrics, images)


def deliver_result(job: Job) -> bool:
    """Send what the process of a finished run left untold; whether nothing is left.

    It may have been killed after it had written its result and before all of that was certain to be
    told: then it is told from the start, and what was told is not told twice. Where nothing is
    left, as most often, MLflow is not asked. Errors are those of `told_now`.
    """
    result = read_json(job.directory / "result.json")
    outbox = Outbox(job.journal)
    told, left = outbox.holds(_LAST, result["images"]), bool(outbox.due)
    outbox.close()
    if told and not left:
        return True
    job = told_now(job)
    tracker = Tracker(job.tracking_uri, job.run_id, job.journal, system_metrics=False)
    if not told:
        report(tracker, job, result)
    return tracker.close("FINISHED", timeout_seconds=60.0)


def report_measures(tracker: Tracker, cards: Mapping[str, Any], step: int) -> None:
    """The figures of the cards that `trainer.scorecard.measures` made, each with its interval."""
    tracker.metrics({f"test/{path}": value for path, value in flat(cards).items()}, step)


def report_scorecard(tracker: Tracker, card: Mapping[str, Any], step: int) -> None:
    """The figures of recognition with their intervals, and the confusion matrix."""
    report_measures(tracker, {name: card[name] for name in FIGURES}, step)
    recalls = {f"test/recall_{name}": value for name, value in card["per_class"].items()}
    tracker.metrics(recalls, step)
    tracker.image("confusion", _confusion(card), step)


def record_evaluation(
    job: Job,
    lake: str,
    card: Mapping[str, Any] | None,
    cards: Mapping[str, Any],
    pictures: Mapping[str, np.ndarray],
    unchecked: str = "",
) -> str | None:
    """An evaluation on `lake`, for the record of its run; what kept MLflow from taking it."""
    figures = {} if card is None else {name: card[name] for name in FIGURES}
    shown = dict(pictures) if card is None else {**pictures, "confusion": _confusion(card)}
    try:
        job = told_now(job)
    except (ValueError, TrackingError) as error:
        return str(error)
    return add_to_run(
        job.tracking_uri,
        job.run_id,
        {f"evaluate/{lake}/{path}": value for path, value in flat({**figures, **cards}).items()},
        {f"evaluate/{lake}/{name}": picture for name, picture in shown.items()},
        {f"mien.unchecked.{lake}": unchecked} if unchecked else {},
    )


def _confusion(card: Mapping[str, Any]) -> np.ndarray:
    classes: Sequence[str] = card["classes"]
    return confusion_picture(np.asarray(card["confusion"]), classes)

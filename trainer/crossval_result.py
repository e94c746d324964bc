"""What came of a cross-validation: the folds' results, and one scorecard over their test faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_service.lakes.lake import Lake
from data_service.schema import Expression
from trainer import job as jobs
from trainer.crossval_job import CrossvalJob
from trainer.launch import RunResult
from trainer.scorecard.evaluate import pooled, read_predictions, scorecard
from trainer.tracking.report import report_scorecard
from trainer.tracking.tracker import Tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossvalResult:
    """The runs of all folds, and the scorecard over every subject, each tested exactly once."""

    run_id: str
    directory: Path
    folds: tuple[RunResult, ...]
    scorecard: Mapping[str, Any] | None

    @property
    def images_per_second(self) -> float:
        """The mean over the folds."""
        return float(np.mean([fold.images_per_second for fold in self.folds]))

    def as_json(self) -> dict[str, Any]:
        """Plain values, the scorecard's entries at the top level."""
        return {
            "run_id": self.run_id,
            "status": "finished",
            "folds": [fold.run_id for fold in self.folds],
            "images_per_second": self.images_per_second,
            "first_step_seconds": self.folds[0].first_step_seconds,
            **(self.scorecard or {}),
        }


def concluded(
    job: CrossvalJob, lake: Lake, results: tuple[RunResult, ...], tracker: Tracker
) -> CrossvalResult:
    """The result, written to `result.json` and told to MLflow, once."""
    classes = jobs.classes_of(job.run, lake.manifest.classes)
    result = CrossvalResult(
        run_id=job.run_id,
        directory=job.directory,
        folds=results,
        scorecard=_scorecard(results, classes, job.run.seed),
    )
    path = job.directory / "result.json"
    if result.scorecard is not None and not path.is_file():
        report_scorecard(tracker, result.scorecard, 0)
    tracker.commit(0)
    jobs.write_json(path, result.as_json())
    return result


def _scorecard(
    results: tuple[RunResult, ...], classes: tuple[Expression, ...], seed: int
) -> dict[str, Any] | None:
    """The scorecard over the test faces of all folds; None where nothing was recognised."""
    if any(result.scorecard is None for result in results):
        return None
    parts = [read_predictions(result.directory / "predictions.npz") for result in results]
    return scorecard(pooled(parts), classes, seed=seed)

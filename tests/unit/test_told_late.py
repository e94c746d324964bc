"""What a run's process was killed before it could tell MLflow is told by who goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.mlflow_store import ensure_store
from tests.made_runs import recorded
from trainer import catalog, job, launch
from trainer.scorecard.evaluate import Predictions, scorecard
from trainer.tracking import moved, report, tracker

RUN, CLASSES = catalog.recipe("baseline.tiny"), ("anger", "fear")
GONE = "http://head:5000"


@pytest.fixture
def run(store: str, monkeypatch: pytest.MonkeyPatch) -> job.Job:
    """A run that is under way."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    run_id = tracker.create_run(store, "late", "a run", tags={}, params={})
    made = recorded(RUN, run_id, tracking_uri=store)
    job.set_status(made.directory, "starting")
    return made


@pytest.fixture
def finished(run: job.Job) -> dict[str, Any]:
    """The result that the run has written, and told nobody."""
    predictions = Predictions(
        rows=np.arange(4),
        labels=np.array([0, 1, 0, 1]),
        logits=np.eye(2)[[0, 1, 1, 1]],
        subjects=np.array(["a", "a", "b", "b"]),
    )
    result = {
        "run_id": run.run_id,
        "status": "finished",
        "steps": 3,
        "images": 96,
        "images_per_second": 7.0,
        "first_step_seconds": 1.0,
        "ledger": 5,
        "validation": {"macro_recall": 0.5},
        "scorecard": scorecard(predictions, CLASSES),
        "measures": {},
    }
    job.write_json(run.directory / "result.json", result)
    return result


class Killed(BaseException):
    """What nothing catches."""


def killed(*given: Any) -> None:
    raise Killed


def resumed(run: job.Job) -> launch.RunResult:
    return launch.train(RUN, Path("lake"), resume=run.run_id)


def told(run: job.Job) -> dict[str, list[float]]:
    """Every value that MLflow has of each figure of the end."""
    client = ensure_store(run.tracking_uri)
    names = [name for name in client.get_run(run.run_id).data.metrics if "/" in name]
    return {
        name: [point.value for point in client.get_metric_history(run.run_id, name)]
        for name in names
    }


def pictures(run: job.Job) -> list[str]:
    found = ensure_store(run.tracking_uri).list_artifacts(run.run_id, "images")
    return [one.path for one in found if one.path.endswith(".png")]


def status(run: job.Job) -> str:
    return ensure_store(run.tracking_uri).get_run(run.run_id).info.status


@pytest.mark.parametrize("where", ["before", "confusion_picture", "in the end"])
def test_a_run_killed_between_its_result_and_its_report(
    where: str, run: job.Job, finished: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if where == "confusion_picture":
            patch.setattr(report, where, killed)
        patch.setattr(tracker.Sender, "start", lambda sender: None)
        dead = tracker.Tracker(run.tracking_uri, run.run_id, run.journal, system_metrics=False)
        if where == "confusion_picture":
            with pytest.raises(Killed):
                report.report(dead, run, finished)
        elif where == "in the end":
            report.report(dead, run, finished)
            dead.commit(96)
    assert resumed(run).steps == 3
    values = told(run)
    assert values["final/macro_recall"] == [0.5] and values["test/accuracy"] == [0.75]
    assert values["final/first_step_seconds"] == [1.0]
    assert len(pictures(run)) == 1 and status(run) == "FINISHED"
    monkeypatch.setattr(tracker, "Tracker", pytest.fail)
    monkeypatch.setattr(report, "Tracker", pytest.fail)
    resumed(run)


def test_a_result_is_told_where_mlflow_is_by_now(
    run: job.Job, finished: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job.move_tracking(run.directory, GONE)
    assert resumed(run).steps == 3
    assert told(run)["test/accuracy"] == [0.75] and status(run) == "FINISHED"
    assert job.load(run.directory) == run
    job.move_tracking(run.directory, GONE)
    monkeypatch.setattr(moved, "knows", pytest.fail)
    assert resumed(run).steps == 3, "where nothing is left, nobody is asked"


def test_a_run_that_fails_before_it_could_tell_has_failed(
    run: job.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*given: Any) -> None:
        raise ValueError("nothing fits")

    monkeypatch.setattr(launch, "work_in_steps", refuses)
    with pytest.raises(ValueError, match="nothing fits"):
        resumed(run)
    assert status(run) == "FAILED"


def test_what_was_open_when_the_workers_were_lost_is_told(run: job.Job) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker.Sender, "start", lambda sender: None)
        dead = tracker.Tracker(run.tracking_uri, run.run_id, run.journal, system_metrics=False)
        dead.metrics({"train/loss": 2.0}, 32)
    assert tracker.deliver(run.tracking_uri, run.run_id, run.journal, "FAILED")
    assert told(run) == {"train/loss": [2.0]} and status(run) == "FAILED"

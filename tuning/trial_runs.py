"""The runs of a trial, in MLflow and on disk: begun, found again, closed."""

from __future__ import annotations

from pathlib import Path

from cluster.home import runs_dir, tracking_uri
from trainer import job as jobs
from trainer.config import RunConfig, to_dict
from trainer.tracking.sender import Status
from trainer.tracking.tracker import Tracker, create_run, run_tags
from tuning.results import TrialRecord
from tuning.setup import Setup

_MLFLOW_STATES: dict[str, Status] = {
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
}


def create_trial_run(task: TrialRecord, setup: Setup) -> str:
    """The trial's run in MLflow, below that of the study; every attempt goes on in it."""
    same_as = {} if task.same_as is None else {"mien.same_as": f"trial {task.same_as}"}
    return create_run(
        tracking_uri(),
        setup.experiment,
        f"trial {task.number}",
        parent=setup.study_run,
        tags={
            **run_tags(setup.run, kind="trial", lake_hash=setup.lake_hash),
            "mien.trial": str(task.number),
            **same_as,
        },
        params=task.params,
    )


def tracker_of(task: TrialRecord) -> Tracker:
    """What tells MLflow of a trial that has a run there."""
    journal = runs_dir() / str(task.run_id) / "journal.jsonl"
    return Tracker(tracking_uri(), str(task.run_id), journal, system_metrics=False)


def close_trial_run(tracker: Tracker, done: TrialRecord | None) -> None:
    """Leave the trial's end in MLflow; one that was stopped is closed by its next attempt."""
    if done is None:
        tracker.close("KILLED")
        return
    step = len(done.finished_folds)
    if done.state == "COMPLETE":
        tracker.metrics({f"validation/{name}": value for name, value in done.values.items()}, step)
        tracker.metrics({"seconds": done.seconds}, step)
        tracker.commit(step)
    tracker.close(_MLFLOW_STATES[done.state])


def close_runs(done: TrialRecord) -> None:
    """Close in MLflow what a process left open of a trial that has got its end without one."""
    if done.run_id is None:
        return
    close_left(done)
    close_trial_run(tracker_of(done), done)


def close_left(done: TrialRecord) -> None:
    """Close in MLflow what earlier attempts of a trial left open below it."""
    state: Status = "KILLED" if done.state == "COMPLETE" else _MLFLOW_STATES[done.state]
    finished = {fold.run_id for fold in done.finished_folds.values()}
    for run in jobs.records():
        if run["parent"] == done.run_id and run["run_id"] not in finished:
            journal = Path(run["directory"]) / "journal.jsonl"
            left = Tracker(tracking_uri(), run["run_id"], journal, system_metrics=False)
            left.close(state)


def begun_run(parent: str | None, run: RunConfig, fold: str | None) -> str | None:
    """The last run with these settings that was begun below `parent` in the fold (None: in any)."""
    if parent is None:
        return None
    settings = to_dict(run)
    found = [
        one
        for one in jobs.records()
        if one["parent"] == parent and one["run"] == settings and fold in (None, one["fold"])
    ]
    return max(found, key=lambda one: one["created"])["run_id"] if found else None

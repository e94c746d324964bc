"""What began in an MLflow goes on in it, at whatever address that is by now.

A server that is started anew, or a home that moved, has another one: so MLflow is asked whether it
has the run.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from cluster.home import tracking_uri
from trainer import job as jobs
from trainer.job import Job
from trainer.tracking.tracker import TrackingError, knows


def require_begun(run_id: str, what: str, address: str = "another") -> None:
    """ValueError where MLflow, as it is given or served now, does not have the run.

    `what` names the run, `address` where it began. TrackingError where MLflow cannot be asked.
    """
    if not knows(tracking_uri(), run_id):
        raise ValueError(
            f"MLflow at {tracking_uri()} has no {what}, which began in {address}: set "
            "MLFLOW_TRACKING_URI, or the home, to where it began"
        )


def told_now(job: Job) -> Job:
    """The run as it tells MLflow from now on; its run.json says so.

    MLflow is not asked where the address is the same. Where it does not have the run, or cannot be
    asked, the run goes on telling the MLflow where it began, if that has it; else the errors are
    those of `require_begun`.
    """
    uri = tracking_uri()
    if uri == job.tracking_uri:
        return job
    try:
        require_begun(job.run_id, f"run {job.run_id}", job.tracking_uri)
    except (ValueError, TrackingError):
        with suppress(TrackingError):
            if knows(job.tracking_uri, job.run_id):
                return job
        raise
    jobs.move_tracking(job.directory, uri)
    return replace(job, tracking_uri=uri)

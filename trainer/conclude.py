"""The end of a run: the chosen weights, the test subjects, touched once, and the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer import checkpoint
from trainer import job as jobs
from trainer.between import draw_samples, peek_if_asked, shows_samples
from trainer.scorecard.evaluate import Predictions, predict_rows, scorecard, write_predictions
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.measures import measure
from trainer.scorecard.scoring import validation_metrics, validation_predictions
from trainer.session import Session, close, images_per_second, pause, save


def conclude(session: Session) -> dict[str, Any]:
    """After the last step: the chosen weights, the test, the result."""
    save(session)
    if session.writer is not None:
        session.writer.wait()
        if session.writer.error is not None:
            raise session.writer.error
    rate = images_per_second(session)
    if session.status in ("running", "early"):
        session.status = "finished"
    result: dict[str, Any] = {
        "run_id": session.job.run_id,
        "status": session.status,
        "steps": session.training.progress.step,
        "images": session.training.progress.images,
        "images_per_second": rate,
        "first_step_seconds": session.first_step_seconds,
        "ledger": int(session.world.all_reduce_sum(session.training.ledger.clone())),
        "validation": session.validation,
        "scorecard": None,
        "measures": {},
    }
    if session.status == "finished":
        with pause(session):
            result |= _final(session)
    if session.world.leads:
        jobs.write_json(session.job.directory / "result.json", result)
    close(session, session.status, result)
    return result


def _final(session: Session) -> dict[str, Any]:
    """Choose the weights, write them, and touch the test subjects, once."""
    best = session.job.directory / "best.safetensors"
    select = session.job.run.evaluation.select
    if select != "last" and session.world.broadcast_object(best.exists()):
        checkpoint.read_weights(best, session.training)
    whole = (session.training, session.spec, session.data, session.lake, session.world)
    seen = validation_predictions(*whole)
    found: dict[str, Any] = {"validation": validation_metrics(*whole, seen)}
    if session.world.leads:
        checkpoint.write_weights(session.job.directory / "weights.safetensors", session.training)
        if shows_samples(session.job.run, session.spec):
            draw_samples(session)
    if session.job.validation_only:
        if seen is not None and session.world.leads:  # a search compares its trials by them
            write_predictions(seen, session.job.directory / "validation.npz")
        return found
    predictions = _test(session) if "recognise" in session.spec.capabilities else None
    peek_if_asked(session)
    if session.world.leads:
        if predictions is not None:
            write_predictions(predictions, session.job.directory / "predictions.npz")
            found["scorecard"] = scorecard(
                predictions, session.data.info.classes, seed=session.job.run.seed
            )
        found["measures"] = measure(_examinee(session), predictions, "brief")
    return found


def _test(session: Session) -> Predictions:
    return predict_rows(
        session.training.system,
        session.lake,
        np.asarray(session.data.fold.test_rows),
        session.job.run,
        session.data.info,
        session.world,
    )


def _examinee(session: Session) -> Examinee:
    """The system with the fold's test subjects."""
    return Examinee(
        system=session.training.system,
        spec=session.spec,
        run=session.job.run,
        info=session.data.info,
        lake=session.lake,
        rows_N=np.asarray(session.data.fold.test_rows),
        home_lake=session.lake,
        train_rows_N=np.asarray(session.data.fold.train_rows),
        device=session.world.device,
    )

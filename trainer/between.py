"""What happens between the steps of a run: figures, validation, the best weights, samples."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from trainer import checkpoint
from trainer import job as jobs
from trainer.config import RunConfig
from trainer.peeking import peek
from trainer.scorecard.samples import sample_grid
from trainer.scorecard.scoring import validation_metrics, validation_predictions
from trainer.session import Session, images_per_second, pause, save
from trainer.system import SystemSpec
from trainer.training import StepResult


def after_step(session: Session, result: StepResult) -> None:
    """Log, validate, draw and save where it is time to; end the run where someone asked for it."""
    now = time.monotonic()
    session.steps_here += 1
    if session.steps_here == 1:
        session.first_step_seconds = now - session.started
        _say_first_step(session)
    if session.steps_here == 3:
        session.steady_since, session.steady_images = now, result.progress.images
    images, config = result.progress.images, session.job.run
    for name, value in result.terms.items():
        session.latest[name] = value, result.weights[name]
    if _crossed(images, result.step_images, config.logging.every_images):
        _log(session, result)
    if _crossed(images, result.step_images, config.evaluation.every_images):
        _validate(session)
    if _crossed(images, result.step_images, config.logging.samples_every_images):
        _log_samples(session)
    stop, leave, due = result.signals
    if due or stop or leave or session.status != "running":
        save(session)
    if (stop or leave) and session.status == "running":
        session.status = "stopped" if stop else "leaving"


def _say_first_step(session: Session) -> None:
    if session.world.leads:
        jobs.set_status(
            session.job.directory,
            "running",
            step=session.training.progress.step,
            workers=session.world.size,
            first_step_seconds=session.first_step_seconds,
        )


def _crossed(images: int, step_images: int, every: int) -> bool:
    return every > 0 and images // every > (images - step_images) // every


def _log(session: Session, result: StepResult) -> None:
    terms, session.latest = session.latest, {}
    names = sorted(terms)
    values = torch.stack([terms[name][0].float() for name in names]) if names else None
    if values is not None:
        session.world.all_reduce_sum(values).div_(session.world.size)
    gates = {name: float(value) for name, value in session.training.system.gates().items()}
    if session.tracker is None:
        return
    metrics = {"images_per_second": images_per_second(session)}
    for name, value in zip(names, values.tolist() if values is not None else [], strict=True):
        metrics[f"train/{name}"] = value
        metrics[f"train_weighted/{name}"] = value * terms[name][1]
    metrics |= {f"gate/{name}": value for name, value in gates.items()}
    session.tracker.metrics(metrics, result.progress.images)
    jobs.set_status(
        session.job.directory,
        "running",
        step=result.progress.step,
        images=result.progress.images,
        total_images=sum(stage.images for stage in session.training.stages),
        stage=result.stage,
        workers=session.world.size,
        images_per_second=metrics["images_per_second"],
    )


def _validate(session: Session) -> None:
    """Measure on the validation subjects; keep the best weights; ask whether to go on."""
    with pause(session):
        whole = (session.training, session.spec, session.data, session.lake, session.world)
        metrics = validation_metrics(*whole, validation_predictions(*whole))
        images = session.training.progress.images
        session.validation = metrics
        _keep_best(session, metrics, images)
        peek_if_asked(session)
    if session.tracker is not None:
        named = {f"validation/{name}": value for name, value in metrics.items()}
        session.tracker.metrics(named, images)
    prune = False
    if session.world.leads and session.on_validation is not None:
        prune = session.on_validation(images, metrics)
    if session.world.broadcast_object(prune):
        session.status = "pruned"
    patience = session.job.run.evaluation.patience
    waited = images - session.best_images
    if session.status == "running" and patience and waited >= patience:
        session.status = "early"


def peek_if_asked(session: Session) -> None:
    """In evaluation mode with averaged weights, as what is tested at the end."""
    run, job = session.job.run, session.job
    if run.evaluation.peeking and not job.validation_only:
        rows = np.asarray(session.data.fold.test_rows)
        rest = (run, session.data.info, session.world)
        peek(job.directory, session.training.system, session.lake, rows, *rest)


def _keep_best(session: Session, metrics: dict[str, float], images: int) -> None:
    """In evaluation mode with averaged weights: they are what is kept."""
    select = session.job.run.evaluation.select
    value = metrics.get(select, -math.inf)
    if select == "last" or value <= session.best:
        return
    session.best, session.best_images = value, images
    if session.world.leads:
        best = session.job.directory / "best.safetensors"
        checkpoint.write_weights(best, session.training, images=images)


def shows_samples(run: RunConfig, spec: SystemSpec) -> bool:
    """Whether pictures of edits go into the run's record."""
    return run.logging.samples_every_images > 0 and "synthesise" in spec.capabilities


def _log_samples(session: Session) -> None:
    if session.tracker is None or "synthesise" not in session.spec.capabilities:
        return
    with pause(session):
        draw_samples(session)


def draw_samples(session: Session) -> None:
    """In evaluation mode: the validation subjects with every expression."""
    assert session.tracker is not None
    grid = sample_grid(
        session.training.system,
        session.lake,
        session.data.fold.validation_rows,
        session.job.run,
        session.data.info,
        session.world.device,
        intensity="intensity" in session.spec.capabilities,
    )
    session.tracker.image("samples", grid, session.training.progress.images)

"""One worker's run, from the lake to the result: the loop, and what happens between its steps."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cluster.interrupt import on_interrupt
from cluster.memory import keep_freed_blocks
from data_service.lake import Lake
from data_service.pool import SealedPool
from trainer import catalog, checkpoint, feed
from trainer import job as jobs
from trainer.config import RunConfig
from trainer.evaluate import Predictions, predict_rows, scorecard, write_predictions
from trainer.examinee import Examinee
from trainer.fesda import seal
from trainer.job import Job
from trainer.loop import StepResult, Training, begin, fit
from trainer.measures import measure
from trainer.peeking import peek
from trainer.report import report
from trainer.restore import start_from
from trainer.samples import sample_grid
from trainer.scoring import validation_metrics
from trainer.sender import Status
from trainer.system import SystemSpec
from trainer.tracking import Tracker
from trainer.world import World

OnValidation = Callable[[int, dict[str, float]], bool]


@dataclass(kw_only=True, slots=True, eq=False)
class Session:
    """The state of a run besides the training itself: clocks, the best weights, the tracker."""

    job: Job
    world: World
    spec: SystemSpec
    lake: Lake
    data: feed.TrainingData
    training: Training
    tracker: Tracker | None
    writer: checkpoint.Writer | None
    started: float
    on_validation: OnValidation | None = None
    asked_to_stop: threading.Event = field(default_factory=threading.Event)
    best: float = -math.inf
    best_images: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    latest: dict[str, tuple[torch.Tensor, float]] = field(default_factory=dict)
    """Every term since the last log as its turn last gave it, with its weight: not all play in each
    step. A checkpoint does not hold it."""
    first_step_seconds: float = 0.0
    steps_here: int = 0
    steady_since: float = 0.0
    steady_images: int = 0
    idle_seconds: float = 0.0
    saved_at: float = 0.0
    saved_step: int = 0
    status: str = "running"


def work(job: Job, world: World, on_validation: OnValidation | None = None) -> dict[str, Any]:
    """Train, choose by validation, test once; the result, as also written to `result.json`.

    Goes on from the newest whole checkpoint of the run's directory, where there is one.
    """
    started = time.monotonic()
    keep_freed_blocks()
    _set_threads(job, world)
    session = _open(job, world, started, on_validation)
    try:
        with on_interrupt(session.asked_to_stop.set):
            _train(session)
            return _conclude(session)
    except BaseException:
        _close(session, "failed")
        raise


def _set_threads(job: Job, world: World) -> None:
    if job.run.engine.threads:
        torch.set_num_threads(job.run.engine.threads)


def _open(job: Job, world: World, started: float, on_validation: OnValidation | None) -> Session:
    spec = catalog.spec_of(job.run)
    lake = Lake.open(job.lake)
    data = feed.prepare(job.run, spec, lake, job.fold)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.run.seed)
        system = spec.build(job.run.system, data.info)
    for network in [player.module for player in system.players()] + list(system.frozen().values()):
        network.to(world.device)
        if job.run.engine.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start_from(job, system)
    training = begin(job.run, system, world)
    writer = checkpoint.Writer(job.checkpoints, job.run.checkpoint) if world.leads else None
    session = Session(
        job=job,
        world=world,
        spec=spec,
        lake=lake,
        data=data,
        training=training,
        tracker=None,
        writer=writer,
        started=started,
        on_validation=on_validation,
    )
    _resume(session)
    if world.leads:
        jobs.write_info(job.directory, data.info)
        session.tracker = Tracker(job.tracking_uri, job.run_id, job.directory / "journal.jsonl")
        session.tracker.rollback(training.progress.images)
    return session


def _resume(session: Session) -> None:
    """Every rank reads the same checkpoint: the newest that rank 0 finds whole."""
    found = checkpoint.latest(session.job.checkpoints) if session.world.leads else None
    if session.world.leads and found is None and checkpoint.saved(session.job.checkpoints):
        raise ValueError(f"every checkpoint below {session.job.checkpoints} is damaged")
    step = session.world.broadcast_object(found.progress.step if found else None)
    if step is None:
        return
    if found is None:
        found = checkpoint.read(session.job.checkpoints / f"{step:09d}")
    checkpoint.restore(session.training, found)
    session.best = found.extra["best"]
    session.best_images = found.extra["best_images"]
    session.validation = found.extra["validation"]
    session.saved_step = step


def _train(session: Session) -> None:
    session.saved_at = time.monotonic()
    border = feed.synthesis_stage(session.job.run, session.training.stages)
    if border is None:
        pool = _given_pool(session)
        _report_pool(session, pool, 0)
        _leg(session, pool, None)
        return
    if session.training.progress.stage < border:
        _leg(session, None, border)
    if session.status == "running":
        pool = seal(session.job, session.training, session.data, session.lake)
        _report_pool(session, pool, border)
        _leg(session, pool, None)


def _given_pool(session: Session) -> SealedPool | None:
    job = session.job
    pool = feed.given_pool(job.run, job.pool, session.lake, session.data, job.fold)
    if pool is not None and pool.hash != job.pool_hash:
        raise ValueError(f"the pool at {pool.path} is not the one that run {job.run_id} began with")
    return pool


def _report_pool(session: Session, pool: SealedPool | None, stage: int) -> None:
    """How many attempts the gate let pass, when the stage that first shows them begins."""
    progress = session.training.progress
    begins = progress.stage == stage and progress.stage_images == 0
    if pool is not None and session.tracker is not None and begins:
        rates = pool.manifest.admission_rates
        named = {f"synthetic/admission_rate/{name}": rate for name, rate in rates.items()}
        session.tracker.metrics(named | {"synthetic/faces": len(pool)}, progress.images)


def _leg(session: Session, pool: SealedPool | None, before_stage: int | None) -> None:
    """Train with one stream: the whole run, or its part before or after the synthesis."""
    training = session.training
    with feed.open_batches(session.data, session.lake, pool, training, before_stage) as batches:
        steps = fit(training, batches, signals=lambda: _signals(session), before_stage=before_stage)
        for result in steps:
            _after_step(session, result)
            if session.status != "running":
                return


def _signals(session: Session) -> tuple[bool, ...]:
    """What this rank wishes: to stop, and (rank 0 by its clock) to save."""
    leads = session.world.leads
    stop = session.asked_to_stop.is_set() or (leads and session.job.stop_file.exists())
    config = session.job.run.checkpoint
    due = time.monotonic() - session.saved_at >= config.every_seconds
    if config.every_steps:
        done = session.training.progress.step + 1
        due = done % config.every_steps == 0
    busy = session.writer.busy if session.writer else False
    return stop, leads and due and not busy


def _after_step(session: Session, result: StepResult) -> None:
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
    stop, save = result.signals
    if save or stop or session.status != "running":
        _save(session)
    if stop and session.status == "running":
        session.status = "stopped"


def _say_first_step(session: Session) -> None:
    if session.world.leads:
        jobs.set_status(
            session.job.directory,
            "running",
            step=session.training.progress.step,
            first_step_seconds=session.first_step_seconds,
        )


def _crossed(images: int, step_images: int, every: int) -> bool:
    return every > 0 and images // every > (images - step_images) // every


def _images_per_second(session: Session) -> float:
    seconds = time.monotonic() - session.steady_since - session.idle_seconds
    done = session.training.progress.images - session.steady_images
    return done / seconds if session.steady_since and seconds > 0 else 0.0


def _log(session: Session, result: StepResult) -> None:
    terms, session.latest = session.latest, {}
    names = sorted(terms)
    values = torch.stack([terms[name][0].float() for name in names]) if names else None
    if values is not None:
        session.world.all_reduce_sum(values).div_(session.world.size)
    gates = {name: float(value) for name, value in session.training.system.gates().items()}
    if session.tracker is None:
        return
    metrics = {"images_per_second": _images_per_second(session)}
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
        images_per_second=metrics["images_per_second"],
    )


@contextlib.contextmanager
def _pause(session: Session) -> Iterator[None]:
    """Evaluation: averaged weights, eval mode, off the clock of the throughput."""
    began = time.monotonic()
    modes = {name: player.module.training for name, player in session.training.players.items()}
    with session.training.averages.applied(), torch.no_grad():
        for player in session.training.players.values():
            player.module.eval()
        yield
    for name, player in session.training.players.items():
        player.module.train(modes[name])
    session.idle_seconds += time.monotonic() - began


def _validate(session: Session) -> None:
    """Measure on the validation subjects; keep the best weights; ask whether to go on."""
    with _pause(session):
        metrics = validation_metrics(
            session.training, session.spec, session.data, session.lake, session.world
        )
        images = session.training.progress.images
        session.validation = metrics
        _keep_best(session, metrics, images)
        _peek(session)
    if session.tracker is not None:
        named = {f"validation/{name}": value for name, value in metrics.items()}
        session.tracker.metrics(named, images)
    prune = False
    if session.world.leads and session.on_validation is not None:
        prune = session.on_validation(images, metrics)
    if session.world.broadcast_object(prune):
        session.status = "pruned"
    patience = session.job.run.evaluation.patience
    if patience and images - session.best_images >= patience:
        session.status = "early"


def _peek(session: Session) -> None:
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
        checkpoint.write_weights(session.job.directory / "best.safetensors", session.training)


def _shows_samples(run: RunConfig, spec: SystemSpec) -> bool:
    return run.logging.samples_every_images > 0 and "synthesise" in spec.capabilities


def _log_samples(session: Session) -> None:
    if session.tracker is None or "synthesise" not in session.spec.capabilities:
        return
    with _pause(session):
        _draw_samples(session)


def _draw_samples(session: Session) -> None:
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


def _save(session: Session) -> None:
    """Take a picture of the training; rank 0 writes it in the background."""
    step = session.training.progress.step
    session.saved_at = time.monotonic()
    if step == session.saved_step:
        return
    session.saved_step = step
    extra = {
        "best": session.best,
        "best_images": session.best_images,
        "validation": session.validation,
    }
    picture = checkpoint.capture(session.training, extra)
    if picture is not None and session.writer is not None and session.tracker is not None:
        tracker = session.tracker
        tracker.sync()
        session.writer.submit(picture, lambda progress: tracker.commit(progress.images))


def _conclude(session: Session) -> dict[str, Any]:
    """After the last step: the chosen weights, the test, the result."""
    _save(session)
    if session.writer is not None:
        session.writer.wait()
        if session.writer.error is not None:
            raise session.writer.error
    rate = _images_per_second(session)
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
        with _pause(session):
            result |= _final(session)
    if session.world.leads:
        jobs.write_json(session.job.directory / "result.json", result)
    _close(session, session.status, result)
    return result


def _final(session: Session) -> dict[str, Any]:
    """Choose the weights, write them, and touch the test subjects, once."""
    best = session.job.directory / "best.safetensors"
    select = session.job.run.evaluation.select
    if select != "last" and best.exists():
        checkpoint.read_weights(best, session.training)
    validation = validation_metrics(
        session.training, session.spec, session.data, session.lake, session.world
    )
    if session.world.leads:
        checkpoint.write_weights(session.job.directory / "weights.safetensors", session.training)
        if _shows_samples(session.job.run, session.spec):
            _draw_samples(session)
    found: dict[str, Any] = {"validation": validation}
    if session.job.validation_only:
        _keep_validation(session)
        return found
    predictions = _test(session) if "recognise" in session.spec.capabilities else None
    _peek(session)
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


def _keep_validation(session: Session) -> None:
    """What was said of each validation subject: a search compares its trials by them."""
    if "recognise" not in session.spec.capabilities:
        return
    predictions = predict_rows(
        session.training.system,
        session.lake,
        np.asarray(session.data.fold.validation_rows),
        session.job.run,
        session.data.info,
        session.world,
    )
    if session.world.leads:
        write_predictions(predictions, session.job.directory / "validation.npz")


def _close(session: Session, status: str, result: dict[str, Any] | None = None) -> None:
    if not session.world.leads:
        return
    progress = session.training.progress
    jobs.set_status(session.job.directory, status, step=progress.step, images=progress.images)
    tracker = session.tracker
    if tracker is None:
        return
    if result is not None:
        report(tracker, session.job, result)
        tracker.commit(progress.images)
    names: dict[str, Status] = {
        "finished": "FINISHED",
        "stopped": "KILLED",
        "pruned": "KILLED",
        "failed": "FAILED",
    }
    tracker.close(names[status])

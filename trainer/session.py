"""One worker's run: its state, how it begins or goes on, how it is saved and closed."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from data_service.lakes.lake import Lake
from trainer import catalog, checkpoint, copies, feed
from trainer import job as jobs
from trainer.job import Job
from trainer.kin import kin_of
from trainer.loop import begin
from trainer.restore import start_from
from trainer.system import SystemSpec
from trainer.tracking.report import report
from trainer.tracking.sender import Status
from trainer.tracking.tracker import Tracker
from trainer.training import Training
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


def open_session(
    job: Job, world: World, started: float, on_validation: OnValidation | None
) -> Session:
    """Lake, fold, networks and training of a job, at the newest whole checkpoint if it has one.

    ValueError where every checkpoint is damaged.
    """
    spec = catalog.spec_of(job.run)
    lake = Lake.open(job.lake)
    if lake.hash != job.lake_hash:
        raise ValueError(f"{job.lake} is no longer the lake that run {job.run_id} began with")
    data = feed.prepare(job.run, spec, lake, job.fold)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.run.seed)
        system = spec.build(job.run.system, data.info)
    start_from(job, system)
    training = begin(job.run, system, world)
    training.kin = kin_of(job.run, spec, data.info)
    writer = _writer(job) if world.leads else None
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
        session.tracker = Tracker(job.tracking_uri, job.run_id, job.journal)
        session.tracker.rollback(training.progress.images)
        if job.run.engine.least_workers is not None:
            session.tracker.metrics({"workers": world.size}, training.progress.images)
    return session


def _writer(job: Job) -> checkpoint.Writer:
    rules = job.run.checkpoint
    if rules.copy_to is None:
        return checkpoint.Writer(job.checkpoints, rules)
    if not checkpoint.saved(job.checkpoints):  # a run that goes on outlives a service that is away
        _check_copies(rules.copy_to)
    copy = functools.partial(copies.send, rules.copy_to, job.directory, keep=rules.keep)
    return checkpoint.Writer(job.checkpoints, rules, copy)


def _check_copies(address: str) -> None:
    """ValueError where this machine cannot write there, though the one that began the run can."""
    try:
        copies.check(address)
    except ValueError as error:
        raise ValueError(
            f"{socket.gethostname()}: {error}; what its service asks for, such as "
            "AWS_ACCESS_KEY_ID, is to be set before `ray start` on every machine"
        ) from None


def _resume(session: Session) -> None:
    """Every rank reads the same checkpoint: the newest that rank 0 finds whole."""
    found = checkpoint.latest(session.job.checkpoints) if session.world.leads else None
    if session.world.leads and found is None and checkpoint.saved(session.job.checkpoints):
        raise ValueError(f"every checkpoint below {session.job.checkpoints} is damaged")
    step = session.world.broadcast_object(found.progress.step if found else None)
    if step is not None:
        _restore(session, found, step)
    _give_up_other_weights(session)


def _restore(session: Session, found: checkpoint.Checkpoint | None, step: int) -> None:
    if found is None:
        found = checkpoint.read(session.job.checkpoints / f"{step:09d}")
    checkpoint.restore(session.training, found)
    session.best = found.extra["best"]
    session.best_images = found.extra["best_images"]
    session.validation = found.extra["validation"]
    session.status = "early" if found.extra.get("early") else "running"
    session.saved_step = step


def _give_up_other_weights(session: Session) -> None:
    """The best weights are written at once: after a kill they may be of steps that are taken again.

    Then the next validation chooses anew. Files of older runs do not say of which step they are.
    """
    best = session.job.directory / "best.safetensors"
    images = checkpoint.images_of(best) if session.world.leads else None
    if session.world.broadcast_object(images not in (None, session.best_images)):
        session.best = -math.inf
        if session.world.leads:
            best.unlink(missing_ok=True)


def images_per_second(session: Session) -> float:
    """Since the third step of this process, without the time that evaluation took."""
    seconds = time.monotonic() - session.steady_since - session.idle_seconds
    done = session.training.progress.images - session.steady_images
    return done / seconds if session.steady_since and seconds > 0 else 0.0


@contextlib.contextmanager
def pause(session: Session) -> Iterator[None]:
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


def save(session: Session) -> None:
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
        "early": session.status == "early",
    }
    picture = checkpoint.capture(session.training, extra)
    if picture is not None and session.writer is not None and session.tracker is not None:
        tracker = session.tracker
        tracker.sync()
        session.writer.submit(picture, lambda progress: tracker.commit(progress.images))


def leave(session: Session) -> None:
    """Hand the run on to the next group of workers: it is saved, and has not ended."""
    if session.writer is None or session.tracker is None:
        return
    session.writer.wait()
    if session.writer.error is not None:
        raise session.writer.error
    session.tracker.leave()
    os.replace(session.job.leave_file, session.job.left_file)


def close(session: Session, status: str, result: dict[str, Any] | None = None) -> None:
    """Write down how the run ended, and deliver what the tracker still holds."""
    if not session.world.leads:
        return
    progress = session.training.progress
    jobs.set_status(session.job.directory, status, step=progress.step, images=progress.images)
    if session.writer is not None:
        session.writer.wait()  # the run may go on in this process at once
    tracker = session.tracker
    if tracker is None:
        return
    if result is not None and status != "stopped":  # what is trained on has other figures
        report(tracker, session.job, result)
        tracker.commit(progress.images)
    names: dict[str, Status] = {
        "finished": "FINISHED",
        "stopped": "KILLED",
        "pruned": "KILLED",
        "failed": "FAILED",
    }
    tracker.close(names[status])

"""One worker's run, from the lake to the result."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch

from cluster.interrupt import on_interrupt
from cluster.memory import keep_freed_blocks
from data_service.synthesis.live_pool import LivePool
from data_service.synthesis.pool import SealedPool
from trainer import feed
from trainer.between import after_step
from trainer.conclude import conclude
from trainer.job import Job
from trainer.loop import due_steps
from trainer.session import OnValidation, Session, close, leave, open_session
from trainer.steps import Steps, whole
from trainer.synthetic import live_pool
from trainer.synthetic.fesda import seal
from trainer.synthetic.pool_pictures import pool_pictures
from trainer.training import DueStep
from trainer.world import World


def work_in_steps(
    job: Job, world: World, on_validation: OnValidation | None = None
) -> Steps[dict[str, Any] | None]:
    """Train, choose by validation, test once; the result, as also written to `result.json`.

    Goes on from the newest whole checkpoint of the run's directory, where there is one. None where
    these workers made way for others before the run had ended.
    """
    started = time.monotonic()
    keep_freed_blocks()
    _set_threads(job, world)
    session = open_session(job, world, started, on_validation)
    try:
        with on_interrupt(session.asked_to_stop.set):
            yield from _train(session)
            return leave(session) if session.status == "leaving" else conclude(session)
    except BaseException:
        close(session, "failed")
        raise


work = whole(work_in_steps)


def _set_threads(job: Job, world: World) -> None:
    if job.run.engine.threads:
        torch.set_num_threads(job.run.engine.threads)


def _train(session: Session) -> Steps[None]:
    session.saved_at = time.monotonic()
    border = feed.synthesis_stage(session.job.run, session.training.stages)
    if border is None:
        pool = _given_pool(session)
        if isinstance(pool, SealedPool):
            _report_pool(session, pool, 0)
        yield from _leg(session, pool, None)
        if isinstance(pool, LivePool) and session.tracker is not None:
            images = session.training.progress.images
            live_pool.report(session.tracker, pool, session.lake, images)
        return
    if session.training.progress.stage < border:
        yield from _leg(session, None, border)
    if session.status == "running":
        pool = seal(session.job, session.training, session.data, session.lake)
        _report_pool(session, pool, border)
        yield from _leg(session, pool, None)


def _given_pool(session: Session) -> feed.Pool | None:
    job = session.job
    if job.live:
        return LivePool(job.live_pool)
    pool = feed.given_pool(job.run, job.pool, session.lake, session.data, job.fold)
    if pool is not None and pool.hash != job.pool_hash:
        raise ValueError(f"the pool at {pool.path} is not the one that run {job.run_id} began with")
    return pool


def _report_pool(session: Session, pool: SealedPool, stage: int) -> None:
    """What the gate let pass and what not, when the stage that first shows them begins."""
    progress = session.training.progress
    begins = progress.stage == stage and progress.stage_images == 0
    if session.tracker is not None and begins:
        rates = pool.manifest.admission_rates
        named = {f"synthetic/admission_rate/{name}": rate for name, rate in rates.items()}
        session.tracker.metrics(named | {"synthetic/faces": len(pool)}, progress.images)
        pictures = pool_pictures(pool.table, pool.faces, pool.refused, session.lake)
        for name, picture_HW3 in pictures.items():
            session.tracker.image(name, picture_HW3, progress.images)


def _leg(session: Session, pool: feed.Pool | None, before_stage: int | None) -> Steps[None]:
    """Train with one stream: the whole run, or its part before or after the synthesis.

    Nothing where the checkpoint says that the run had been ended early.
    """
    if session.status != "running":
        return
    training = session.training
    with feed.open_batches(session.data, session.lake, pool, training, before_stage) as batches:
        signals = functools.partial(_signals, session)
        for item in due_steps(training, batches, signals=signals, before_stage=before_stage):
            if isinstance(item, DueStep):
                yield item
                continue
            after_step(session, item)
            if session.status != "running":
                return


def _signals(session: Session) -> tuple[bool, ...]:
    """What this rank wishes: to stop, to make way for others, and (rank 0 by its clock) to save."""
    leads = session.world.leads
    stop = session.asked_to_stop.is_set() or (leads and session.job.stop_file.exists())
    config = session.job.run.checkpoint
    due = time.monotonic() - session.saved_at >= config.every_seconds
    if config.every_steps:
        done = session.training.progress.step + 1
        due = done // config.every_steps > session.saved_step // config.every_steps
    busy = session.writer.busy if session.writer else False
    make_way = leads and session.job.leave_file.exists()
    return stop, make_way, leads and due and not busy

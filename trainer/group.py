"""Ray Train's workers: one group of them that trains a run, or one after another of as many as fit.

A group has a fixed size. Where a run may have more or fewer workers, the driver looks how many the
cluster has room for: where more fit, it asks the group to save and leave; where a host was lost,
the group has ended by itself. The next group goes on from the newest checkpoint with as many as fit
then, which share the same batches: what the run trains on does not depend on how many they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cluster.home import home
from cluster.resources import Share, share
from cluster.room import capacity, fitting, free, wait_for_answers
from trainer import checkpoint, feed
from trainer import job as jobs
from trainer.job import Job
from trainer.tracking.tracker import deliver
from trainer.training import NonFiniteTermError
from trainer.work import work
from trainer.world import World

LOG = logging.getLogger("ray")
"""Whose messages go to the run's log file."""
FAULT = "fault.json"
_FOR_GOOD = {error.__name__: error for error in (ValueError, NonFiniteTermError)}
"""What goes wrong again however often it is tried."""
_MAX_FAILURES = 3
LOOK_SECONDS = 5.0
SETTLED_SECONDS = 60.0
"""A group trains so long before it makes way for a larger one: each beginning costs time."""
WAIT_SECONDS = 600.0


class GroupLostError(RuntimeError):
    """The group ended before its run did; what its newest checkpoint holds is not lost."""


def train_on_ray(job: Job) -> None:
    """Until the run has ended or was stopped; a dead worker brings all back from the checkpoint.

    RuntimeError where workers are lost again and again, or where no room comes back for them.
    """
    from cluster.session import connect

    with connect(log_file=job.directory / "log.txt"):
        if job.run.engine.least_workers is None:
            _fit(job, share(job.run.engine.workers, capacity()), _MAX_FAILURES)
        else:
            _fit_as_many(job, feed.worker_counts(job))


def _fit_as_many(job: Job, counts: Sequence[int]) -> None:
    """Groups of one of the `counts` (the largest first), one after another, until the run ends.

    GroupLostError where groups are lost without a new checkpoint between them.
    """
    share(counts[-1], capacity())
    failures, newest = 0, checkpoint.saved(job.checkpoints)[-1:]
    while True:
        portion = _room(job, counts)
        LOG.info("run %s goes on with %d workers", job.run_id, portion.workers)
        jobs.set_status(job.directory, "starting")
        for mark in (job.leave_file, job.left_file):
            mark.unlink(missing_ok=True)
        try:
            with _making_way(job, counts, portion.workers):
                _fit(job, portion, 0)
        except GroupLostError as error:
            before, newest = newest, checkpoint.saved(job.checkpoints)[-1:]
            failures = failures + 1 if newest == before else 1
            if failures > _MAX_FAILURES:
                raise
            LOG.warning("%s; it is tried again with those that are left", error)
            wait_for_answers()
        else:
            if not job.left_file.exists():
                job.leave_file.unlink(missing_ok=True)
                return


def _room(job: Job, counts: Sequence[int]) -> Share:
    """The most workers that fit, once the places of those that have just ended are free again.

    KeyboardInterrupt when the run is to stop meanwhile, RuntimeError when no room comes.
    """
    began = time.monotonic()
    while time.monotonic() - began < WAIT_SECONDS:
        could, can = fitting(counts, capacity()), fitting(counts, capacity(), free())
        if can and (can == could or time.monotonic() - began > LOOK_SECONDS):
            return can
        if job.stop_file.exists():
            jobs.set_status(job.directory, "stopped")
            deliver(job.tracking_uri, job.run_id, job.journal, "KILLED")
            raise KeyboardInterrupt(
                f"run {job.run_id} was stopped while it waited for workers; to go on with it: "
                f"mien train --resume {job.run_id}"
            )
        time.sleep(0.5)
    raise RuntimeError(
        f"run {job.run_id} waited {WAIT_SECONDS:.0f} s for room for {counts[-1]} workers; the "
        f"cluster has {capacity()}; to go on: mien train --resume {job.run_id}"
    )


@contextmanager
def _making_way(job: Job, counts: Sequence[int], held: int) -> Iterator[threading.Thread]:
    """During the block a thread looks whether more workers fit; twice so, the group is to leave."""
    over = threading.Event()

    def look() -> None:
        seen, began = 0, time.monotonic()
        while held < counts[0] and not over.wait(LOOK_SECONDS):
            try:
                best = fitting(counts, capacity(), free(), held)
            except Exception as error:  # the head may be away for a while
                LOG.warning("the cluster did not say what it has: %s", error)
                continue
            more = best is not None and best.workers > held
            seen = seen + 1 if more and time.monotonic() - began > SETTLED_SECONDS else 0
            if seen == 2 and not over.is_set():
                job.leave_file.touch()
                return

    watcher = threading.Thread(target=look, name="making-way", daemon=True)
    watcher.start()
    try:
        yield watcher
    finally:
        over.set()


def _fit(job: Job, portion: Share, retries: int) -> None:
    """One group, which Ray Train begins anew so often. GroupLostError where that did not help."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpu = portion.worker_gpus > 0
    (job.directory / FAULT).unlink(missing_ok=True)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"directory": str(job.directory), "threads": portion.threads},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=portion.workers,
            use_gpu=on_gpu,
            resources_per_worker=portion.per_worker,
            # A worker reserves half of its core: packed, two would share one while others idle.
            placement_strategy="PACK" if on_gpu else "SPREAD",
        ),
        run_config=RunConfig(
            name=job.run_id,
            storage_path=str(home() / "ray"),
            failure_config=FailureConfig(max_failures=retries, controller_failure_limit=2),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        _raise_fault(job)
        raise GroupLostError(f"run {job.run_id} failed: {_cause(error)}") from error
    _raise_fault(job)


def _raise_fault(job: Job) -> None:
    """Raises here what a worker found wrong for good, with its own type."""
    path = job.directory / FAULT
    if path.is_file():
        fault = jobs.read_json(path)
        raise _FOR_GOOD[fault["type"]](fault["text"])


def _cause(error: BaseException) -> str:
    """The last line of what a worker raised, without Ray's frames around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _worker(config: Mapping[str, Any]) -> None:
    """What every Ray Train worker runs."""
    import ray
    from ray.train.torch import get_device

    directory = Path(config["directory"])
    if not directory.is_dir():
        raise RuntimeError(
            f"host {ray.util.get_node_ip_address()} does not see {directory}; MIEN_HOME must lie "
            "in a folder that all hosts share (`mien doctor` tells which do not)"
        )
    fault = directory / FAULT
    if fault.is_file():
        return  # Ray tries again what would go wrong again
    torch.set_num_threads(config["threads"])
    world = World.of_process_group(get_device())
    try:
        work(jobs.load(directory), world)
    except tuple(_FOR_GOOD.values()) as error:
        if not torch.distributed.is_initialized():
            raise  # the group was taken down meanwhile; what torch then says is no wrong input
        jobs.write_json(fault, {"type": type(error).__name__, "text": str(error)})
        raise

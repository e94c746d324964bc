"""What it costs Ray Train's controller to ask N workers once a second how they do.

It is the one load on the coordinator that grows with the workers of a run. The poll is Ray Train's
own code; those that answer are actors which give the status of a worker that trains, and do nothing
else. They are one process each, so that of more than `PROCESSES` workers several share one: what
the poller sends, and gets, is the same.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

WORKERS = (1, 4, 16, 64, 256)
PROCESSES = 8
SECONDS = 15


def measure() -> list[dict[str, float]]:
    """For each number of workers, of the process that polls; 0 is what its Ray takes at rest."""
    import ray

    from cluster.session import connect

    with connect(num_cpus=2):
        answering = ray.remote(num_cpus=0)(_Answering)
        actors = [answering.remote() for _ in range(PROCESSES)]
        ray.get([actor.poll_status.remote() for actor in actors], timeout=500)
        return [_polled(actors, workers) for workers in (0, *WORKERS)]


class _Answering:
    """Says what `RayTrainWorker.poll_status` says of one that trains."""

    def poll_status(self) -> Any:
        from ray.train.v2._internal.execution.worker_group.poll import WorkerStatus

        return WorkerStatus(running=True)


def _group(actors: list[Any], workers: int) -> Any:
    """Ray Train's group as far as its poll needs one."""
    from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

    members = [SimpleNamespace(actor=actors[rank % len(actors)]) for rank in range(workers)]
    group: Any = object.__new__(WorkerGroup)
    group._worker_group_state = SimpleNamespace(workers=members)
    group._worker_rank_to_replica_group_rank = None
    group._world_rank_to_ongoing_poll = {}
    group._worker_health_check_timeout_s = 25.0
    group._callbacks = []
    return group


def _polled(actors: list[Any], workers: int) -> dict[str, float]:
    """Ask once a second for `SECONDS`, as the controller does."""
    group, longest, answered = _group(actors, workers), 0.0, 0
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(SECONDS):
        time.sleep(max(0.0, began + number - time.perf_counter()))
        if workers:
            asked = time.perf_counter()
            status = group.poll_status(timeout=1.0)
            longest = max(longest, time.perf_counter() - asked)
            assert not status.errors, status.errors
            answered += workers - len(group._world_rank_to_ongoing_poll)
    time.sleep(max(0.0, began + SECONDS - time.perf_counter()))
    return {
        "workers": workers,
        "processes_that_answer": min(workers, len(actors)),
        "cpu_seconds_per_second": (time.process_time() - cpu) / (time.perf_counter() - began),
        "longest_poll_milliseconds": 1e3 * longest,
        "share_answered_within_a_second": answered / (workers * SECONDS) if workers else 1.0,
    }

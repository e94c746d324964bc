"""What a run and its parallel trials take of a cluster: arithmetic, before anything starts.

A worker has a core of its own and reserves half of it with Ray: the other half stays free for what
reads ahead for it, since Ray Data does not start where no CPU is left.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from cluster.limits import cpu_quota

WORKER_CPUS = 0.5


def usable_cpus() -> int:
    """The CPUs that this process may use: those of its affinity, and no more than its quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, cpu_quota() or sys.maxsize))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What a cluster has."""

    cpus: float
    gpus: float = 0.0
    nodes: int = 1

    def __str__(self) -> str:
        has = [f"{self.cpus:g} CPUs" if self.cpus != 1 else "1 CPU"]
        has += [f"{self.gpus:g} GPUs" if self.gpus != 1 else "1 GPU"] if self.gpus else []
        has += [f"{self.nodes} nodes"] if self.nodes > 1 else []
        return ", ".join(has[:-1]) + (" and " if len(has) > 1 else "") + has[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What each worker of a run gets: Ray's slots, and the threads that torch may use."""

    workers: int
    worker_cpus: float
    worker_gpus: float
    threads: int

    @property
    def per_worker(self) -> dict[str, float]:
        """As Ray Train's `resources_per_worker`."""
        return {"CPU": self.worker_cpus} | ({"GPU": self.worker_gpus} if self.worker_gpus else {})


def share(workers: int, capacity: Capacity, *, parallel: int = 1) -> Share:
    """The share of each worker when `parallel` runs of `workers` workers go on at once.

    On a cluster with GPUs every worker has one of its own, for NCCL refuses two on one device; runs
    of one worker each may divide a GPU. ValueError says what was asked, what there is, what fits.
    """
    if workers < 1 or parallel < 1:
        raise ValueError(f"{workers} workers in {parallel} parallel runs; at least 1 of each")
    asked = workers * parallel
    kind, most = ("GPU", capacity.gpus) if capacity.gpus else ("CPU", capacity.cpus)
    if capacity.gpus and workers == 1 and asked > capacity.gpus:
        most = min(capacity.cpus, capacity.gpus * _per_gpu(asked, capacity.gpus))
    if asked > most:
        raise ValueError(_does_not_fit(workers, parallel, kind, int(most), capacity))
    gpus = min(1.0, capacity.gpus / asked) if capacity.gpus else 0.0
    return Share(
        workers=workers,
        worker_cpus=WORKER_CPUS,
        worker_gpus=gpus if gpus in (0.0, 1.0) else 1.0 / _per_gpu(asked, capacity.gpus),
        threads=max(1, int(capacity.cpus // asked)),
    )


def _per_gpu(asked: int, gpus: float) -> int:
    """How many one-worker runs share a GPU."""
    return -int(-asked // gpus)


def _does_not_fit(workers: int, parallel: int, kind: str, most: int, capacity: Capacity) -> str:
    wants = f"{workers} workers" if workers != 1 else "1 worker"
    if parallel > 1:
        wants = f"{parallel} parallel runs of {wants}"
    fits = f"up to {most} workers" if most != 1 else "1 worker"
    if parallel > 1:
        runs = most // workers
        fits = f"{runs} parallel runs of {workers}" if runs else f"{fits} in one run"
    return (
        f"{wants} do not fit: each needs a {kind} of its own and the cluster has {capacity}; "
        f"what fits: {fits}"
    )

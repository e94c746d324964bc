"""What the connected Ray has, and has room for, now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.resources import Capacity, Share, share

ANSWER_SECONDS = 15.0


def capacity() -> Capacity:
    """What all its living nodes have."""
    import ray

    total = ray.cluster_resources()
    return Capacity(
        cpus=total.get("CPU", 0.0),
        gpus=total.get("GPU", 0.0),
        nodes=sum(bool(node["Alive"]) for node in ray.nodes()),
    )


def free() -> Mapping[str, float]:
    """What of it nobody holds."""
    import ray

    return ray.available_resources()


def wait_for_answers() -> None:
    """Until every node has answered or is known to be dead, which its workers' end may precede."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_here)
    asked = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in ray.nodes()
        if node["Alive"]
    ]
    _, late = ray.wait(asked, num_returns=len(asked), timeout=ANSWER_SECONDS)
    for one in late:
        ray.cancel(one)


def _here() -> None:
    """An answer."""


def fitting(
    counts: Sequence[int],
    capacity: Capacity,
    free: Mapping[str, float] | None = None,
    held: int = 0,
) -> Share | None:
    """The first of the counts of workers that fits, with what each gets; None where none does.

    By what the cluster has; and, where `free` is given, by the slots that are free beside those
    that `held` workers of the same run hold.
    """
    for count in counts:
        try:
            portion = share(count, capacity)
        except ValueError:
            continue
        if free is None or count <= held + _slots(portion, free):
            return portion
    return None


def _slots(portion: Share, free: Mapping[str, float]) -> int:
    return min(int(free.get(name, 0.0) / need + 1e-6) for name, need in portion.per_worker.items())

"""What control groups leave to this process; containers, Slurm and systemd set them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath

import psutil

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def memory_bytes() -> int:
    """The machine's memory, or less where a group of this process may only have less."""
    told = [*_said("memory.max", ""), *_said("memory.limit_in_bytes", "memory")]
    bounds = [int(text) for text in told if text.isdigit()]
    return min([psutil.virtual_memory().total, *bounds])


def cpu_quota() -> int | None:
    """How many CPUs' time the groups (of the second version) of this process may use, rounded up;
    None without a bound."""
    quotas = []
    for text in _said("cpu.max", ""):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(ceil(int(quota) / int(period)))
    return min(quotas, default=None)


def _said(name: str, controller: str) -> Iterator[str]:
    """What a file says in each group that this process is in, from its own up.

    Groups of the second version have no controller's name; those of the first have a tree of their
    own for each. A container may see only the part of the tree that begins at its own group.
    """
    with suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller not in controllers.split(","):
                continue
            own = PurePosixPath(path.lstrip("/"))
            for group in (own, *own.parents):
                with suppress(OSError):
                    yield (GROUPS / controllers / group / name).read_text().strip()

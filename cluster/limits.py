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


def free_bytes() -> int:
    """The machine's memory that is available, or less where a group of this process has less left.

    What is kept of files counts as left, in a group as on the machine: it makes way.
    """
    second = _left("", "memory.max", "memory.current", "")
    first = _left("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    return min([psutil.virtual_memory().available, *second, *first])


def cpu_quota() -> int | None:
    """How many CPUs' time the groups (of the second version) of this process may use, rounded up;
    None without a bound."""
    quotas = []
    for text in _said("cpu.max", ""):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(ceil(int(quota) / int(period)))
    return min(quotas, default=None)


def _left(controller: str, bound: str, used: str, prefix: str) -> Iterator[int]:
    """What each group with a bound has left, by the names that its version has for that."""
    for group in _groups(controller):
        with suppress(OSError):
            most = (group / bound).read_text().strip()
            if most.isdigit():
                yield int(most) - int((group / used).read_text()) + _of_files(group, prefix)


def _of_files(group: Path, prefix: str) -> int:
    """Bytes of files that the group holds in memory."""
    with suppress(OSError):
        said = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return sum(int(said.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    return 0


def _said(name: str, controller: str) -> Iterator[str]:
    """What a file says in each group that this process is in, from its own up."""
    for group in _groups(controller):
        with suppress(OSError):
            yield (group / name).read_text().strip()


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the groups that this process is in, from its own up.

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
                yield GROUPS / controllers / group

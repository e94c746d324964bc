"""A group of processes that together may use only so much memory, files in memory counted in.

Linux control groups, of version 2 where it has the memory controller, else of version 1; who calls
needs the right to make one. What the group's processes read stays in memory on the group's account.
Without a limit nothing is made: the group is a command and the processes that it starts.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The folder of a control group; None without a limit."""

    folder: Path | None

    def run(self, command: Sequence[str], peaks: dict[str, float]) -> str:
        """What the command prints, run in the group with all processes that it starts.

        `peaks` takes, by process, the most memory of its own (USS, MiB) that was seen.
        """
        if self.folder:
            enter = f'echo $$ > "{self.folder}/cgroup.procs"; exec "$@"'
            command = ["sh", "-c", enter, "sh", *command]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while process.poll() is None:
            self._look(process.pid, peaks)
            time.sleep(0.5)
        assert process.stdout is not None
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        return process.stdout.read()

    def _look(self, first: int, peaks: dict[str, float]) -> None:
        for pid in self._members(first):
            try:
                process = psutil.Process(pid)
                name = f"{' '.join(process.cmdline())[:60]} #{pid}"
                own = process.memory_full_info().uss / 2**20
            except _GONE:
                continue
            peaks[name] = max(peaks.get(name, 0.0), own)

    def _members(self, first: int) -> list[int]:
        """The group's processes, of which the first one is the command."""
        if self.folder:
            return list(map(int, (self.folder / "cgroup.procs").read_text().split()))
        try:
            return [first, *(one.pid for one in psutil.Process(first).children(recursive=True))]
        except _GONE:
            return []


@contextmanager
def limited(num_bytes: int) -> Iterator[Group]:
    """A group with that limit, for the length of the block; OSError where none can be made.

    With 0 bytes it has no limit.
    """
    if not num_bytes:
        yield Group(folder=None)
        return
    if "memory" in _text(ROOT / "cgroup.controllers").split():
        folder, limit = ROOT / f"mien-{os.getpid()}", "memory.max"
    else:
        folder, limit = ROOT / "memory" / f"mien-{os.getpid()}", "memory.limit_in_bytes"
    folder.mkdir()
    try:
        (folder / limit).write_text(str(num_bytes))
        yield Group(folder=folder)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(100):
        try:
            folder.rmdir()
        except OSError:  # its processes are ending
            time.sleep(0.1)
        else:
            return


def forget(file: Path) -> None:
    """Takes a file out of memory, so that who reads it next pays for it."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""

"""A disk that fills while a run saves on it, and is cleared again. Needs root, for the disk."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from benchmarks.chaos.trial import Trial

DISK_BYTES = 64 << 20
FULL_SECONDS = 4.0


@contextmanager
def small(trial: Trial) -> Iterator[None]:
    """The trial's home is a disk of its own, of 64 MiB, in memory."""
    if os.geteuid() != 0:
        raise RuntimeError("a disk of its own needs root")
    options = f"size={DISK_BYTES},mode=711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", trial.home], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", trial.home], check=True)


def fill(trial: Trial, chance: random.Random) -> Sequence[psutil.Process]:
    """Not a byte is left on the disk, for four seconds."""
    filler = trial.home / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    break
    trial.watch(FULL_SECONDS)
    filler.unlink()
    return []

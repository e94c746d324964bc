"""Freed memory stays: glibc takes the settings, and large blocks are not faulted in again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import numpy as np
from cluster.memory import keep_freed_blocks

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(4 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

import ctypes
ctypes.CDLL(None).mallopt(-3, 128 << 10)
returned = faults()
assert keep_freed_blocks()
faults()
print(returned, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="these settings are glibc's")
def test_freed_blocks_are_used_again() -> None:
    said = subprocess.run(
        [sys.executable, "-c", STEPS], capture_output=True, text=True, check=True
    ).stdout.split()
    returned, kept = map(int, said)
    assert kept < 0.2 * returned

"""What a checkpoint costs the training that it is taken of, its writing in the background included.

Blocks of steps in turn begin with a checkpoint or without, within one training; a block is to be
long enough for the writing to end in it. The difference between neighbours is the cost of one
checkpoint, and over the 20 s between two of them by default that is a share of the throughput.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.scaling.processes import go, on_ranks, training


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """How many pairs of blocks, of how many steps; settings and torch's threads of each worker."""

    pairs: int = 16
    steps: int = 20
    threads: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)


def measure(lake: Path, recipe: str, workers: int, blocks: Blocks) -> dict[str, Any]:
    """The seconds of a block, and what a checkpoint adds to it."""
    from trainer.config import CheckpointConfig

    given = (lake, recipe, blocks)
    seconds, megabytes, late = on_ranks(workers, blocks.threads, _measured, *given)
    costs = [saving - plain for saving, plain in seconds]
    low, middle, high = statistics.quantiles(costs, n=4)
    between = CheckpointConfig().every_seconds
    return {
        "workers": workers,
        "recipe": recipe,
        "threads": blocks.threads,
        "pairs": blocks.pairs,
        "steps_of_a_block": blocks.steps,
        "seconds_of_a_block": statistics.median(plain for _, plain in seconds),
        "writing_outlasted_its_block": late,
        "megabytes": megabytes,
        "checkpoint_milliseconds": {"median": 1e3 * middle, "quartiles": [1e3 * low, 1e3 * high]},
        "share_of_throughput": {"median": middle / between, "upper_quartile": high / between},
    }


def _measured(
    workers: int, lake: Path, recipe: str, blocks: Blocks
) -> tuple[list[tuple[float, float]], float, int]:
    """Seconds of neighbours (with a checkpoint, without), its size, how often it was still written.

    Who goes first alternates.
    """
    from trainer import checkpoint
    from trainer.config import CheckpointConfig

    late, seconds = 0, []
    warm = training(lake, recipe, blocks.changes, blocks.steps)
    with tempfile.TemporaryDirectory() as name, warm as (begun, moving):
        writer = checkpoint.Writer(Path(name), CheckpointConfig()) if begun.world.leads else None
        for number in range(blocks.pairs):
            spent = {}
            for saves in (True, False) if number % 2 else (False, True):
                began = time.perf_counter()
                picture = checkpoint.capture(begun, {}) if saves else None
                if writer is not None and picture is not None:
                    writer.submit(picture)
                go(moving, blocks.steps)
                spent[saves] = time.perf_counter() - began
                late += writer is not None and writer.writing
            seconds.append((spent[True], spent[False]))
        if writer is None:
            return seconds, 0.0, late
        writer.wait()
        newest = checkpoint.saved(writer.folder)[-1]
        return seconds, sum(one.stat().st_size for one in newest.iterdir()) / 1e6, late

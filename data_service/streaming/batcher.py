"""The process of a Ray Data job that builds batches. Free of torch, so that it starts fast."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from data_service.streaming.source import FaceSource


class BatchActor:
    """Builds the batches of the ranges of steps that it is given, in blocks of at most so many."""

    def __init__(self, source: FaceSource, rank: int, world: int, block_steps: int) -> None:
        self._source, self._rank, self._world = source, rank, world
        self._block_steps = block_steps

    def __call__(self, ranges: pa.Table) -> Iterator[pa.Table]:
        blocks = [
            range(first, min(first + self._block_steps, steps["stop"]))
            for steps in ranges.to_pylist()
            for first in range(steps["start"], steps["stop"], self._block_steps)
        ]
        for block in self._source.blocks(blocks, self._rank, self._world, goes_on=True):
            yield block.to_table()

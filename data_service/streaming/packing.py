"""A batch as one block of memory, so that it travels between processes in one piece."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import pyarrow as pa

_ALIGNMENT = 64

SCHEMA = pa.schema({"step": pa.int64(), "layout": pa.large_string(), "content": pa.large_binary()})

Specs = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type (as numpy writes it) and shape of each named array."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedBatch:
    """Named arrays of one step, all in one stretch of bytes."""

    step: int
    specs: Specs
    content: np.ndarray

    def places(self) -> dict[str, tuple[int, int, np.dtype, tuple[int, ...]]]:
        """Of each array: first byte, end, type and shape."""
        return _places(self.specs)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as views of the bytes."""
        return {
            name: self.content[start:stop].view(dtype).reshape(shape)
            for name, (start, stop, dtype, shape) in self.places().items()
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Batches that lie side by side in memory, and travel as one."""

    content: np.ndarray
    batches: tuple[PackedBatch, ...]

    @classmethod
    def allocate(cls, layouts: Sequence[tuple[int, Specs]]) -> Block:
        """Room for batches of those steps and arrays, unset, with zeros between the arrays."""
        places = [list(_places(specs).values()) for _, specs in layouts]
        ends = [0, *accumulate(_aligned(spots[-1][1]) for spots in places)]
        content = np.empty(ends[-1], np.uint8)
        batches = []
        for (step, specs), spots, (first, end) in zip(layouts, places, pairwise(ends), strict=True):
            mine = content[first:end]
            starts = [*(start for start, _, _, _ in spots[1:]), len(mine)]
            for (_, stop, _, _), start in zip(spots, starts, strict=True):
                mine[stop:start] = 0
            batches.append(PackedBatch(step=step, specs=specs, content=mine))
        return cls(content=content, batches=tuple(batches))

    def to_table(self) -> pa.Table:
        """An Arrow table, a row for each batch; the bytes are not copied."""
        ends = [0, *accumulate(len(batch.content) for batch in self.batches)]
        buffers = [None, pa.py_buffer(np.array(ends, np.int64)), pa.py_buffer(self.content)]
        columns = [
            pa.array([batch.step for batch in self.batches]),
            pa.array([json.dumps(batch.specs) for batch in self.batches], pa.large_string()),
            pa.Array.from_buffers(pa.large_binary(), len(self.batches), buffers),
        ]
        return pa.Table.from_arrays(columns, schema=SCHEMA)


def batches_of(table: pa.Table) -> Iterator[PackedBatch]:
    """The batches of a table, one for each row; their arrays are read-only views of it."""
    for rows in table.to_batches():
        _, offsets, content = rows["content"].buffers()
        ends = np.frombuffer(offsets, np.int64)[rows["content"].offset :]
        bytes_of_all = np.frombuffer(content, np.uint8)
        told = zip(rows["step"].to_pylist(), rows["layout"].to_pylist(), strict=True)
        for row, (step, layout) in enumerate(told):
            arrays = json.loads(layout).items()
            specs = {name: (kind, tuple(shape)) for name, (kind, shape) in arrays}
            yield PackedBatch(
                step=step, specs=specs, content=bytes_of_all[ends[row] : ends[row + 1]]
            )


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def _places(specs: Specs) -> dict[str, tuple[int, int, np.dtype, tuple[int, ...]]]:
    places, start = {}, 0
    for name, (kind, shape) in specs.items():
        dtype = np.dtype(kind)
        stop = start + math.prod(shape) * dtype.itemsize
        places[name] = (start, stop, dtype, shape)
        start = _aligned(stop)
    return places

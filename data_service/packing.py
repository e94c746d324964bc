"""A batch as one block of memory, so that it travels between processes in one piece."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_ALIGNMENT = 64

SCHEMA = pa.schema({"step": pa.int64(), "layout": pa.large_string(), "content": pa.large_binary()})

Specs = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type (as numpy writes it) and shape of each named array."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedBatch:
    """Named arrays of one step, all in one buffer of bytes."""

    step: int
    specs: Specs
    content: np.ndarray

    @classmethod
    def allocate(cls, step: int, specs: Specs) -> PackedBatch:
        """Room for those arrays, zero."""
        num_bytes = max(stop for _, stop, _, _ in _places(specs).values())
        return cls(step=step, specs=specs, content=np.zeros(num_bytes, np.uint8))

    def places(self) -> dict[str, tuple[int, int, np.dtype, tuple[int, ...]]]:
        """Of each array: first byte, end, type and shape."""
        return _places(self.specs)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as views of the buffer."""
        return {
            name: self.content[start:stop].view(dtype).reshape(shape)
            for name, (start, stop, dtype, shape) in self.places().items()
        }

    def to_table(self) -> pa.Table:
        """The batch as an Arrow table of one row; the buffer is not copied."""
        offsets = pa.py_buffer(np.array([0, len(self.content)], np.int64))
        content = pa.Array.from_buffers(
            pa.large_binary(), 1, [None, offsets, pa.py_buffer(self.content)]
        )
        layout = pa.array([json.dumps(self.specs)], pa.large_string())
        return pa.Table.from_arrays([pa.array([self.step]), layout, content], schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table, row: int = 0) -> PackedBatch:
        """The batch of that row; its arrays are read-only views of the table."""
        layout = json.loads(table["layout"][row].as_py())
        return cls(
            step=table["step"][row].as_py(),
            specs={name: (dtype, tuple(shape)) for name, (dtype, shape) in layout.items()},
            content=np.frombuffer(table["content"][row].as_buffer(), np.uint8),
        )


def _places(specs: Specs) -> dict[str, tuple[int, int, np.dtype, tuple[int, ...]]]:
    places, start = {}, 0
    for name, (kind, shape) in specs.items():
        dtype = np.dtype(kind)
        stop = start + math.prod(shape) * dtype.itemsize
        places[name] = (start, stop, dtype, shape)
        start = -(-stop // _ALIGNMENT) * _ALIGNMENT
    return places

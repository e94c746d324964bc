"""Rows that came in any order, read in that of a lake: by name.

Shapes: N rows, P values of a face's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data_service.lakes.manifest import IMAGE


class SortedRows:
    """The rows of all parts in their final order; pixels are read from disk as they are needed."""

    def __init__(self, tables: Sequence[pa.Table], schema: pa.Schema) -> None:
        rows = pa.concat_tables([schema.empty_table(), *tables])
        keys = list(zip(rows["name"].to_pylist(), rows["sample_id"].to_pylist(), strict=True))
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
        self.labels = rows.drop_columns([IMAGE]).combine_chunks().take(order)
        self.count = len(order)
        self.num_bytes = int(np.prod(schema.field(IMAGE).type.shape))
        self._pixels = [_pixels(chunk, self.num_bytes) for chunk in rows[IMAGE].chunks]
        starts = np.cumsum([0, *(len(part) for part in self._pixels)])
        self._part = np.searchsorted(starts, order, side="right") - 1
        self._within = order - starts[self._part]

    def read(self, start: int, stop: int) -> tuple[pa.Table, np.ndarray]:
        """The labels and the pixels (uint8 N x H*W*C) of rows start to stop."""
        labels = self.labels.slice(start, stop - start).combine_chunks()
        pixels_NP = np.empty((labels.num_rows, self.num_bytes), np.uint8)
        where = zip(self._part[start:stop], self._within[start:stop], strict=True)
        for pixels_P, (part, within) in zip(pixels_NP, where, strict=True):
            pixels_P[:] = self._pixels[part][within]
        return labels, pixels_NP


def _pixels(chunk: pa.ExtensionArray, num_bytes: int) -> np.ndarray:
    return chunk.storage.flatten().to_numpy(zero_copy_only=True).reshape(-1, num_bytes)

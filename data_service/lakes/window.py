"""How a lake larger than memory is shuffled: within a window that slides over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_service.lakes.manifest import Manifest

CHUNK_BYTES = 1 << 20
"""What is read from the disk in one piece."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """So many faces are held ready at a time, and come from the disk in chunks of so many."""

    faces: int
    chunk: int

    @classmethod
    def of(cls, lake: Manifest, mebibytes: int) -> Window | None:
        """The window of that size over a lake; None where it is all of the lake, or 0."""
        if not mebibytes or lake.num_bytes <= mebibytes << 20:
            return None
        face_bytes = lake.image_size**2 * lake.channels
        return cls(
            faces=max(1, (mebibytes << 20) // face_bytes), chunk=max(1, CHUNK_BYTES // face_bytes)
        )


class Pieces:
    """What to read when: the chunks of the lake's file, each as the window reaches it.

    Of a chunk the stage's faces are read, all at once, when a step first shows one of them.
    """

    def __init__(self, rows: np.ndarray, window: Window, batch: int) -> None:
        """`rows` (sorted) are the stage's faces, of which a step shows up to `batch`."""
        self._rows, self._chunk = rows, window.chunk
        self._steps_held = -(-(window.faces * 5 // 4 + window.chunk) // batch)
        self._asked_at = np.full(rows[-1] // window.chunk + 1, -np.inf)

    def entering(self, step: int, rows_B: np.ndarray) -> np.ndarray:
        """The rows to be read for a step that shows those: of all pieces not asked for lately."""
        pieces = np.unique(rows_B // self._chunk)
        fresh = pieces[np.abs(step - self._asked_at[pieces]) > self._steps_held]
        self._asked_at[fresh] = step
        borders = (fresh * self._chunk, (fresh + 1) * self._chunk)
        starts, stops = (np.searchsorted(self._rows, rows) for rows in borders)
        spans = zip(starts, stops, strict=True)
        return np.concatenate([rows_B[:0], *(self._rows[start:stop] for start, stop in spans)])

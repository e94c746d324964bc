"""How a lake larger than memory is shuffled: within a window that slides over it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data_service.lakes.manifest import Manifest

CHUNK_BYTES = 4 << 20
"""What enters and leaves a window in one piece."""
GAP_BYTES = 32 << 10
"""Reading so much between two faces takes no longer than another request."""

Spans = np.ndarray
"""First row and end of what lies together, R x 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """So many faces are held ready at a time, and come from the disk in chunks of so many."""

    faces: int
    chunk: int
    face_bytes: int

    @classmethod
    def of(cls, lake: Manifest, mebibytes: int) -> Window | None:
        """The window of that size over a lake; None where it is all of the lake, or 0."""
        if not mebibytes or lake.num_bytes <= mebibytes << 20:
            return None
        face_bytes = lake.image_size**2 * lake.channels
        return cls(
            faces=max(1, (mebibytes << 20) // face_bytes),
            chunk=max(1, CHUNK_BYTES // face_bytes),
            face_bytes=face_bytes,
        )


class Pieces:
    """What to read when: the chunks of the lake's file, each as the window reaches it.

    Of a chunk the stage's faces are read, all at once, when a step first shows one of them, and
    are held until the window has passed it.
    """

    def __init__(self, rows: np.ndarray, window: Window, batch: int | Fraction) -> None:
        """`rows` (sorted) are the stage's faces, of which a step shows `batch` in the mean."""
        self._rows, self._window = rows, window
        self._held_faces = window.faces * 5 // 4 + window.chunk
        self._held_steps = -(-self._held_faces // batch)
        chunks = np.arange(rows[-1] // window.chunk + 2)
        self._spans = together(rows, GAP_BYTES // window.face_bytes, window.chunk)
        self._first_span = np.searchsorted(self._spans[:, 0], chunks * window.chunk)
        self._asked_at = np.full(len(chunks) - 1, -np.inf)
        self._entered: deque[tuple[int, np.ndarray]] = deque()

    def entering(self, step: int, rows_B: np.ndarray) -> Spans:
        """What is to be read for a step that shows those: all pieces not asked for lately."""
        chunk_B = rows_B // self._window.chunk
        fresh = chunk_B[np.abs(step - self._asked_at[chunk_B]) > self._held_steps]
        if len(fresh):
            fresh = np.unique(fresh)
            self._asked_at[fresh] = step
            self._entered.append((step, fresh))
        return self._spans_of(fresh)

    def leaving(self, step: int) -> Spans:
        """All rows of the pieces that the window has passed, each told of once."""
        past = [np.empty(0, np.int64)]
        while self._entered and abs(step - self._entered[0][0]) > self._held_steps:
            asked, chunks = self._entered.popleft()
            past.append(chunks[self._asked_at[chunks] == asked])
        chunks = np.concatenate(past)
        return np.stack([chunks, chunks + 1], axis=1) * self._window.chunk

    def kept(self, num_bytes: float) -> int:
        """The row below which all pieces may stay in memory of that size, beside the window."""
        passing = 1 - min(1.0, self._held_faces / len(self._rows))
        faces = num_bytes / self._window.face_bytes - self._held_faces
        count = int(max(0.0, faces) / passing) if passing else len(self._rows)
        return int(self._rows[count]) if count < len(self._rows) else int(self._rows[-1]) + 1

    def _spans_of(self, chunks: np.ndarray) -> Spans:
        parts = [self._spans[slice(*self._first_span[chunk : chunk + 2])] for chunk in chunks]
        return np.concatenate([self._spans[:0], *parts])


def together(rows: np.ndarray, gap: int, chunk: int = 0) -> Spans:
    """What lies together of `rows` (sorted), with at most `gap` other rows in between, and with a
    `chunk` in one piece of so many.
    """
    parted = np.diff(rows) > gap + 1
    if chunk:
        parted |= np.diff(rows // chunk) > 0
    last = np.append(np.flatnonzero(parted), len(rows) - 1)
    firsts = np.append(0, last[:-1] + 1)
    return np.stack([rows[firsts], rows[last] + 1], axis=1)

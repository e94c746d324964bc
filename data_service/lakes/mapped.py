"""Faces in a file, mapped into memory; of a large file a process holds no more than it needs.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

LARGE_BYTES = 512 << 20
"""Of a larger file so much at most is mapped at a time, and what will be used is read ahead."""
AHEAD_BYTES = 32 << 20
"""So much of a large file is asked for before it is used, as a disk is fastest with much to do."""
STEP_BYTES = 128 << 10
"""What one request asks for: of a longer one Linux may leave out the rest."""
GAP_BYTES = 32 << 10
"""Reading so much between two faces takes no longer than another request."""
AROUND_BYTES = 64 << 10
"""Linux maps so much with a page that is touched, as far as it is in memory."""


class MappedFaces:
    """`faces` (uint8 N x H x W x C, read-only) shows the file.

    Before faces are used, `expect` may be called: it has the system read what is not in memory,
    all of it at once, while the caller goes on, which would else wait for one page after the other.
    And it lets go of pages that the process has looked at, since they count as its own memory.
    """

    def __init__(self, file: Path, shape: tuple[int, int, int, int]) -> None:
        self._file = file.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        self.faces = np.frombuffer(self._map, np.uint8).reshape(shape)
        self.is_large = len(self._map) > LARGE_BYTES
        self._face_bytes = self.faces[0].nbytes
        self._held_bytes = 0
        if self.is_large:
            self._map.madvise(mmap.MADV_RANDOM)

    @property
    def faces_ahead(self) -> int:
        """How many faces to expect before they are used; none where the file is small."""
        return AHEAD_BYTES // self._face_bytes if self.is_large else 0

    def expect(self, rows: np.ndarray, *, read: np.ndarray | None = None) -> None:
        """The faces of `rows` will be used soon: they are read, or those of `read` instead."""
        if not self.is_large:
            return
        self._let_go(len(rows))
        for first, end in _runs(rows if read is None else read, GAP_BYTES // self._face_bytes):
            self._ask(first * self._face_bytes, end * self._face_bytes)

    def _let_go(self, coming: int) -> None:
        """Unmaps what was looked at where it would be too much with as many faces more."""
        coming_bytes = coming * (self._face_bytes + AROUND_BYTES)
        if self._held_bytes + coming_bytes > LARGE_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._held_bytes = 0
        self._held_bytes += coming_bytes

    def _ask(self, first: int, end: int) -> None:
        """Has those bytes read; steps begin with a page, so that none has a part of one more."""
        for start in range(first - first % mmap.PAGESIZE, end, STEP_BYTES):
            size = min(STEP_BYTES, end - start)
            os.posix_fadvise(self._file.fileno(), start, size, os.POSIX_FADV_WILLNEED)


def _runs(rows: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """First row and end of what lies together, with at most `gap` other rows in between."""
    if not len(rows):
        return []
    rows = np.unique(rows)
    last = np.flatnonzero(np.diff(rows) > gap + 1)
    firsts, lasts = rows[np.r_[0, last + 1]], rows[np.r_[last, len(rows) - 1]]
    return list(zip(firsts.tolist(), (lasts + 1).tolist(), strict=True))

"""Faces in a file, mapped into memory; of a large file a process holds no more than it needs.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_service.lakes.window import CHUNK_BYTES

LARGE_BYTES = 512 << 20
"""Of a larger file so much at most is mapped at a time, and what will be used is read ahead."""


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
        self._face_bytes = self.faces[0].nbytes
        self._large = len(self._map) > LARGE_BYTES
        self._looked_at = 0
        if self._large:
            self._map.madvise(mmap.MADV_RANDOM)

    def expect(self, rows: np.ndarray, *, chunks: bool = False) -> None:
        """The faces of those rows will be used soon; with `chunks` their neighbours too."""
        if not self._large:
            return
        self._looked_at += len(rows) * self._face_bytes
        if self._looked_at > LARGE_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._looked_at = 0
        starts = rows * self._face_bytes
        absent = [start for start in starts.tolist() if self._is_absent(start)]
        if chunks:
            self._read(_chunks(absent, self._face_bytes), CHUNK_BYTES)
        else:
            self._read(absent, self._face_bytes)

    def _is_absent(self, start: int) -> bool:
        """Whether the first or the last byte of a face would have to be read from the disk."""
        byte = bytearray(1)
        try:
            for place in (start, start + self._face_bytes - 1):
                os.preadv(self._file.fileno(), [byte], place, os.RWF_NOWAIT)
        except OSError:  # not in memory, or a file system that does not tell
            return True
        return False

    def _read(self, starts: Iterable[int], num_bytes: int) -> None:
        for start in starts:
            os.posix_fadvise(self._file.fileno(), start, num_bytes, os.POSIX_FADV_WILLNEED)


def _chunks(starts: list[int], face_bytes: int) -> list[int]:
    """The first bytes of all chunks that faces at those places lie in."""
    found = set()
    for start in starts:
        found |= {start // CHUNK_BYTES, (start + face_bytes - 1) // CHUNK_BYTES}
    return [chunk * CHUNK_BYTES for chunk in sorted(found)]

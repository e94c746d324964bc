"""Faces in a file, mapped into memory; of a large file a process holds no more than it needs.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_service.lakes.window import GAP_BYTES, Spans, together

LARGE_BYTES = 512 << 20
"""Of a larger file what will be used is read ahead, and what was used is let go."""
AHEAD_BYTES = 32 << 20
"""So much of a large file is asked for before it is used, as a disk is fastest with much to do."""
BEHIND = 4
"""What enters is mapped when so much more was asked for: by then the disk has given it."""
AROUND_BYTES = 64 << 10
"""Linux maps so much with a page that is touched, as far as it is in memory."""
REQUEST_KIB = 128
"""What Linux reads at least for one request."""


class MappedFaces:
    """`faces` (uint8 N x H x W x C, read-only) shows the file.

    Of a large file one may tell which faces come: single ones (`expect`), or what lies together,
    which is then used for a while (from `enter` to `leave`). While the caller goes on, who would
    else wait for one page after the other, a thread has the system read them and maps them. And it
    lets go of those that were used, since they count as the process's own memory.
    """

    def __init__(self, file: Path, shape: tuple[int, int, int, int]) -> None:
        self._file = file.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        self.faces = np.frombuffer(self._map, np.uint8).reshape(shape)
        self.is_large = len(self._map) > LARGE_BYTES
        self._face_bytes = self.faces[0].nbytes
        self._touched_bytes = 0
        self._unmapped: deque[Spans] = deque()
        if self.is_large:
            self._map.madvise(mmap.MADV_RANDOM)
            self._request_bytes = _longest_request(file)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="faces")

    @property
    def faces_ahead(self) -> int:
        """How many faces to expect before they are used; none where the file is small."""
        return AHEAD_BYTES // self._face_bytes if self.is_large else 0

    def expect(self, rows: np.ndarray) -> None:
        """The faces of those rows will be used soon, once."""
        if not self.is_large or not len(rows):
            return
        coming_bytes = len(rows) * (self._face_bytes + AROUND_BYTES)
        if self._touched_bytes + coming_bytes > LARGE_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched_bytes = 0
        self._touched_bytes += coming_bytes
        self._thread.submit(self._ask_for, np.unique(rows))

    def enter(self, spans: Spans) -> None:
        """All rows of those spans will be used soon, in any order."""
        if self.is_large and len(spans):
            self._thread.submit(self._enter, spans)

    def leave(self, spans: Spans, *, keep: int) -> None:
        """No row of those spans is used any more; below row `keep` memory may hold them on."""
        if self.is_large and len(spans):
            self._thread.submit(self._leave, spans, keep)

    def _ask_for(self, rows: np.ndarray) -> None:
        self._ask(together(rows, GAP_BYTES // self._face_bytes))

    def _ask(self, spans: Spans) -> None:
        file, most = self._file.fileno(), self._request_bytes
        for first, end in self._pages(spans):
            for start in range(first, end, most):
                os.posix_fadvise(file, start, min(most, end - start), os.POSIX_FADV_WILLNEED)

    def _enter(self, spans: Spans) -> None:
        self._ask(spans)
        self._unmapped.append(spans)
        if len(self._unmapped) > BEHIND:
            pages = self._pages(self._unmapped.popleft())
            touched = [np.append(np.arange(*two, AROUND_BYTES), two[1] - 1) for two in pages]
            self.faces.reshape(-1).take(np.concatenate(touched))

    def _leave(self, spans: Spans, keep: int) -> None:
        for start, end in self._pages(spans):
            _madvise(self.faces.ctypes.data + start, end - start, mmap.MADV_DONTNEED)
        for start, end in self._pages(spans[spans[:, 0] >= keep]):
            os.posix_fadvise(self._file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)

    def _pages(self, spans: Spans) -> list[tuple[int, int]]:
        """Start, which is a page's, and end in bytes, within the file."""
        bytes_R2 = np.minimum(spans * self._face_bytes, len(self._map))
        bytes_R2[:, 0] -= bytes_R2[:, 0] % mmap.PAGESIZE
        return list(map(tuple, bytes_R2.tolist()))


_madvise = ctypes.CDLL(None).madvise
"""Lets other threads go on meanwhile, which that of Python's mmap does not."""
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _longest_request(file: Path) -> int:
    """Bytes that Linux reads for one request to read ahead; of a longer one it leaves the rest."""
    device = file.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    told = [Path("/sys/class/bdi", number, "read_ahead_kb")]
    told += [Path("/sys/dev/block", number, up, "queue/max_sectors_kb") for up in ("", "..")]
    found = [REQUEST_KIB]
    for one in told:
        with suppress(OSError, ValueError):
            found.append(int(one.read_text()))
    return max(found) << 10

"""Whether a face is nearly one of those before it, pixel by pixel.

Shapes: M faces, S side of the compared part, C channels, D sums over blocks.
"""

from __future__ import annotations

import numpy as np

BLOCKS = 8
"""A face is summed up in so many rows and columns of blocks."""


class NearCopies:
    """Faces so far, and which others lie nearer to one of them than `gate` allows.

    The distance is the mean absolute difference of all values, in [0, 1]. That of sums over parts
    of a face is never larger, so only faces that are near by their sums are compared by pixels.
    """

    def __init__(self, part: slice, gate: float) -> None:
        """`part` are the rows, and the columns, that are compared."""
        self._part, self._gate = part, gate
        self._faces: list[np.ndarray] = []
        self._sums_MD = np.empty((64, 0), np.int64)
        self._total_M = np.empty(64, np.int64)

    def __len__(self) -> int:
        return len(self._faces)

    def near(self, face_HWC: np.ndarray) -> bool:
        """Whether the face (uint8) is nearly one of those that were added."""
        seen_SSC = face_HWC[self._part, self._part].astype(np.int16)
        allowed = self._gate * 255 * seen_SSC.size
        sums_D = _block_sums(seen_SSC)
        near = np.flatnonzero(np.abs(self._total_M[: len(self)] - sums_D.sum()) < allowed)
        gaps = np.abs(self._sums_MD[near] - sums_D).sum(axis=1) if len(near) else near
        return any(
            np.abs(self._faces[index][self._part, self._part] - seen_SSC).sum() < allowed
            for index in near[gaps < allowed]
        )

    def add(self, face_HWC: np.ndarray) -> None:
        """Remembers the face, not a copy of it."""
        sums_D = _block_sums(face_HWC[self._part, self._part])
        count = len(self)
        if not count:
            self._sums_MD = np.empty((len(self._total_M), len(sums_D)), np.int64)
        elif count == len(self._total_M):
            self._sums_MD = np.concatenate([self._sums_MD, np.empty_like(self._sums_MD)])
            self._total_M = np.concatenate([self._total_M, np.empty_like(self._total_M)])
        self._faces.append(face_HWC)
        self._sums_MD[count], self._total_M[count] = sums_D, sums_D.sum()


def _block_sums(face_SSC: np.ndarray) -> np.ndarray:
    edges = np.unique(np.linspace(0, len(face_SSC), BLOCKS + 1).astype(int)[:-1])
    rows = np.add.reduceat(face_SSC.astype(np.int64), edges, axis=0)
    return np.add.reduceat(rows, edges, axis=1).ravel()

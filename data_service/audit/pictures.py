"""What an audit looks at of each face: taken as a lake is written, or read from it file by file.

Shapes: N faces, P values of a face's pixels, S side of a thumbnail, C channels.
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_service.lakes.files import face_digests
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import IMAGE, THUMBNAIL
from data_service.schema import THUMBNAIL_PIXELS

FACE_PIXELS = 48
_ROWS_AT_ONCE = 512
_READERS = 2
"""Threads: hashing and resizing leave the interpreter's lock."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pictures:
    """Small grey pictures of all faces, and what else tells copies and giveaways.

    `faces_NSS` (48 px, in a file without a name) shows the aligned faces, `sources_NSS` (24 px) the
    whole pictures they come from; where the lake has none `has_source_N` is False. `digests` are
    equal where all pixels are. `colours_NF` are mean and deviation of each channel.
    """

    faces_NSS: np.ndarray
    sources_NSS: np.ndarray
    has_source_N: np.ndarray
    digests: np.ndarray
    colours_NF: np.ndarray

    @classmethod
    def empty(cls, count: int, channels: int) -> Pictures:
        """For `count` faces of so many channels, to be filled by `add`."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the array
        return cls(
            faces_NSS=np.memmap(file, np.uint8, "w+", shape=(count, FACE_PIXELS, FACE_PIXELS)),
            sources_NSS=np.zeros((count, THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), np.uint8),
            has_source_N=np.zeros(count, bool),
            digests=np.zeros(count, "V16"),
            colours_NF=np.zeros((count, 2 * channels), np.float32),
        )

    @classmethod
    def of(cls, lake: Lake) -> Pictures:
        """Reads the lake; ValueError where a file is damaged."""
        made = cls.empty(len(lake), lake.manifest.channels)
        with ThreadPoolExecutor(_READERS) as readers:
            waiting: deque[Future[None]] = deque()
            for first, pixels_NP, thumbnails in _batches(lake):
                waiting.append(readers.submit(made.add, first, pixels_NP, thumbnails))
                if len(waiting) > _READERS:
                    waiting.popleft().result()
            for last in waiting:
                last.result()
        return made

    def add(
        self,
        first: int,
        pixels_NP: np.ndarray,
        thumbnails: Sequence[bytes | None],
        digests: np.ndarray | None = None,
    ) -> None:
        """Takes what is needed of the rows from `first` on: `files.Seen`, also for several threads.

        Without `digests` they are made here.
        """
        side = math.isqrt(pixels_NP.shape[1] // (self.colours_NF.shape[1] // 2))
        faces_NHWC = pixels_NP.reshape(len(pixels_NP), side, side, -1)
        rows = range(first, first + len(faces_NHWC))
        self.digests[rows.start : rows.stop] = (
            face_digests(pixels_NP) if digests is None else digests
        )
        for row, face_HWC, source in zip(rows, faces_NHWC, thumbnails, strict=True):
            self._set(row, face_HWC, source)

    def _set(self, row: int, face_HWC: np.ndarray, source: bytes | None) -> None:
        grey_HW = cv2.cvtColor(face_HWC, cv2.COLOR_RGB2GRAY) if face_HWC.shape[2] == 3 else face_HWC
        self.faces_NSS[row] = _small(grey_HW)
        self.colours_NF[row] = np.concatenate(cv2.meanStdDev(face_HWC), axis=None)
        if source is not None:
            self.has_source_N[row] = True
            self.sources_NSS[row] = np.frombuffer(source, np.uint8).reshape(THUMBNAIL_PIXELS, -1)


def _small(grey_HW: np.ndarray) -> np.ndarray:
    shrinks = grey_HW.shape[0] > FACE_PIXELS
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(grey_HW, (FACE_PIXELS, FACE_PIXELS), interpolation=way)


def _batches(lake: Lake) -> Iterator[tuple[int, np.ndarray, list[bytes | None]]]:
    first = 0
    for file in lake.manifest.files:
        parquet = pq.ParquetFile(lake.files / file.name)
        names = [name for name in (IMAGE, THUMBNAIL) if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=names):
            column = batch[THUMBNAIL] if THUMBNAIL in names else pa.nulls(len(batch))
            yield first, _pixels(batch[IMAGE]), column.to_pylist()
            first += len(batch)


def _pixels(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    """The bytes of all values where they lie."""
    num_bytes = column.type.byte_width
    return np.frombuffer(
        column.buffers()[1], np.uint8, len(column) * num_bytes, column.offset * num_bytes
    ).reshape(-1, num_bytes)

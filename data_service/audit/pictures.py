"""What an audit looks at of each face, read from the lake once and file by file.

Shapes: N faces, S side of a thumbnail, C channels.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_service.alignment.decode import grey
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import IMAGE, THUMBNAIL, blake
from data_service.schema import THUMBNAIL_PIXELS

FACE_PIXELS = 48
_ROWS_AT_ONCE = 512
_READERS = 2
"""Threads: hashing and resizing leave the interpreter's lock."""

Batch = tuple[int, np.ndarray, list[bytes | None]]
"""The first row, faces, and whole pictures as they are stored."""


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
    def of(cls, lake: Lake) -> Pictures:
        """Reads the lake; ValueError where a file is damaged."""
        count, channels = len(lake), lake.manifest.channels
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the array
        made = cls(
            faces_NSS=np.memmap(file, np.uint8, "w+", shape=(count, FACE_PIXELS, FACE_PIXELS)),
            sources_NSS=np.zeros((count, THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), np.uint8),
            has_source_N=np.zeros(count, bool),
            digests=np.zeros(count, "V16"),
            colours_NF=np.zeros((count, 2 * channels), np.float32),
        )
        with ThreadPoolExecutor(_READERS) as readers:
            waiting: deque[Future[None]] = deque()
            for batch in _batches(lake):
                waiting.append(readers.submit(made._set_all, batch))
                if len(waiting) > _READERS:
                    waiting.popleft().result()
            for last in waiting:
                last.result()
        return made

    def _set_all(self, batch: Batch) -> None:
        first, faces_BHWC, thumbnails = batch
        for row, (face_HWC, source) in enumerate(zip(faces_BHWC, thumbnails, strict=True), first):
            self._set(row, face_HWC, source)

    def _set(self, row: int, face_HWC: np.ndarray, source: bytes | None) -> None:
        colour_HW3 = face_HWC if face_HWC.shape[2] == 3 else np.repeat(face_HWC, 3, axis=2)
        self.faces_NSS[row] = _small(grey(colour_HW3)[..., 0])
        self.digests[row] = blake(face_HWC.tobytes()).digest()
        self.colours_NF[row] = np.concatenate(cv2.meanStdDev(face_HWC), axis=None)
        if source is not None:
            self.has_source_N[row] = True
            self.sources_NSS[row] = np.frombuffer(source, np.uint8).reshape(THUMBNAIL_PIXELS, -1)


def _small(grey_HW: np.ndarray) -> np.ndarray:
    shrinks = grey_HW.shape[0] > FACE_PIXELS
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(grey_HW, (FACE_PIXELS, FACE_PIXELS), interpolation=way)


def _batches(lake: Lake) -> Iterator[Batch]:
    side, channels = lake.manifest.image_size, lake.manifest.channels
    first = 0
    for file in lake.manifest.files:
        parquet = pq.ParquetFile(lake.files / file.name)
        names = [name for name in (IMAGE, THUMBNAIL) if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=names):
            faces_BHWC = _pixels(batch[IMAGE]).reshape(-1, side, side, channels)
            column = batch[THUMBNAIL] if THUMBNAIL in names else pa.nulls(len(batch))
            yield first, faces_BHWC, column.to_pylist()
            first += len(batch)


def _pixels(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    """The bytes of all values where they lie."""
    num_bytes = column.type.byte_width
    return np.frombuffer(
        column.buffers()[1], np.uint8, len(column) * num_bytes, column.offset * num_bytes
    )

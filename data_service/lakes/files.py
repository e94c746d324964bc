"""The Parquet files of a lake, several at a time, and the hash of what they hold.

Shapes: N faces, P values of a face's pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_service.lakes.manifest import IMAGE, THUMBNAIL, LakeFile, blake, write_atomically
from data_service.lakes.sorted_rows import SortedRows

_FILE_BYTES = 16 << 20
"""Of pixels. Of larger files half the time of writing them goes into fresh memory."""
_WRITERS = 2
"""Files under way at once: compression and hashing leave the interpreter's lock."""
_AHEAD = 2 * _WRITERS
"""Files that may wait to be written: who is interrupted waits for no more."""
_LABELS_AT_ONCE = 1024

Seen = Callable[[int, np.ndarray, Sequence[bytes | None], np.ndarray], None]
"""Is shown the first row's number, pixels (uint8 N x P), small whole pictures and digests."""


def write_files(
    folder: Path, rows: SortedRows, kind: str, seen: Seen | None
) -> tuple[tuple[LakeFile, ...], str]:
    """Writes all rows; gives the files, and the hash of `kind`, labels and pixels.

    The hash does not depend on how rows are spread over files. `seen` is shown the rows of each
    file while they are in memory, by several threads.
    """
    step = max(1, _FILE_BYTES // rows.num_bytes)

    def write(first: int) -> tuple[LakeFile, np.ndarray]:
        labels, pixels_NP = rows.read(first, first + step)
        file = _write(folder, first // step, labels, pixels_NP)
        digests = face_digests(pixels_NP)
        if seen is not None:
            seen(first, pixels_NP, labels[THUMBNAIL].to_pylist(), digests)
        return file, digests

    content = blake(kind.encode())
    labels = rows.labels.drop_columns([THUMBNAIL])
    for first in range(0, rows.count, _LABELS_AT_ONCE):
        for column in labels.slice(first, _LABELS_AT_ONCE).columns:
            content.update(_bytes_of(column))
    written: list[Future[tuple[LakeFile, np.ndarray]]] = []
    with ThreadPoolExecutor(_WRITERS) as writers:
        for first in range(0, rows.count, step):
            written.append(writers.submit(write, first))
            if len(written) > _AHEAD:
                written[-_AHEAD - 1].result()
    files, digests = zip(*(file.result() for file in written), strict=True)
    content.update(np.concatenate(digests).tobytes())
    return files, content.hexdigest()


def face_digests(pixels_NP: np.ndarray) -> np.ndarray:
    """Sixteen bytes for each face, equal where all pixels are."""
    return np.array([blake(face_P.data).digest() for face_P in pixels_NP], "V16")


def _bytes_of(column: pa.ChunkedArray) -> bytes:
    """The values of a column as bytes that only the same values have."""
    if not pa.types.is_list(column.type):
        return json.dumps(column.to_pylist()).encode()
    lists = cast(pa.ListArray, column.combine_chunks())
    lengths = json.dumps(lists.value_lengths().to_pylist()).encode()
    return lengths + lists.flatten().to_numpy().tobytes()


def _write(folder: Path, index: int, labels: pa.Table, pixels_NP: np.ndarray) -> LakeFile:
    """Pixels are stored as one binary value per face: Parquet has no bytes type for numbers and
    would keep every pixel as a 32-bit integer, ten times slower to read."""
    packed = pa.Array.from_buffers(
        pa.binary(pixels_NP.shape[1]), len(pixels_NP), [None, pa.py_buffer(pixels_NP)]
    )
    sink = io.BytesIO()
    pq.write_table(
        labels.append_column(IMAGE, packed),
        sink,
        compression="zstd",
        compression_level=-3,
        use_dictionary=labels.column_names,  # pyright: ignore[reportArgumentType]
    )
    content = sink.getbuffer()
    file_hash = blake(content).hexdigest()
    name = f"faces-{index:05d}-{file_hash[:8]}.parquet"
    write_atomically(folder / name, content)
    return LakeFile(name=name, rows=len(labels), num_bytes=len(content), hash=file_hash)

"""A lake: the faces of a corpus on disk, aligned, labelled, hashed and never changed.

Parquet files of rows sorted by name, `quarantine.csv` of what was refused, and `manifest.json`,
which is written last: a folder without it is no lake. Pixels are unpacked once per node into one
file that all processes of the node map into memory.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_service.manifest import (
    IMAGE,
    MANIFEST,
    PARTS,
    THUMBNAIL,
    LakeFile,
    Manifest,
    blake,
    read_checked,
    write_atomically,
)
from data_service.schema import Rejection, face_schema
from data_service.unpacked import unpack_once

_FILE_BYTES = 64 << 20
_WRITERS = 2
"""Files under way at once: compression and hashing leave the interpreter's lock."""


class LakeWriter:
    """Collects rows in any order and makes a lake of them; the lake does not depend on the order.

    An existing lake stays whole and readable until `finish` has written its successor. ValueError
    where the folder holds a lake of another corpus or picture size.
    """

    def __init__(
        self, path: Path, *, corpus: str, image_size: int, channels: int, source_hash: str
    ) -> None:
        self._path = Path(path)
        self._corpus = corpus
        self._shape = (image_size, image_size, channels)
        self._source_hash = source_hash
        self._schema = face_schema(image_size, channels)
        self._parts: list[Path] = []
        self._refuse_other_lake()
        shutil.rmtree(self._path / PARTS, ignore_errors=True)
        (self._path / PARTS).mkdir(parents=True)

    def append(self, table: pa.Table) -> None:
        """Keeps rows of `face_schema`; on return they lie on disk as one more numbered part."""
        if not table.schema.equals(self._schema):
            raise ValueError(f"these are no rows of {self._corpus} faces {self._shape}")
        part = self._path / PARTS / f"part-{len(self._parts):06d}.arrow"
        draft = part.with_suffix(".draft")
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_table(table.combine_chunks())
        os.replace(draft, part)
        self._parts.append(part)

    def finish(
        self,
        rejected: Sequence[Rejection],
        found: Mapping[str, int],
        expected: Mapping[str, int],
    ) -> Manifest:
        """Writes the lake, its manifest last, and removes the parts and what the lake replaces."""
        self._refuse_other_lake()
        rows = _Parts(self._parts, self._schema)
        if not rows.count:
            raise ValueError(f"no face to write: the lake at {self._path} would be empty")
        files, content = self._write_files(rows)
        write_atomically(self._path / "quarantine.csv", _quarantine(rejected))
        height, _, channels = self._shape
        manifest = Manifest(
            corpus=self._corpus,
            image_size=height,
            channels=channels,
            count=rows.count,
            subjects=len(set(rows.labels["subject"].drop_null().to_pylist())),
            source_hash=self._source_hash,
            hash=content,
            classes=_counts(one or "unlabelled" for one in rows.labels["expression"].to_pylist()),
            alignments=_counts(rows.labels["alignment"].to_pylist()),
            rejected=_counts(one.reason for one in rejected),
            found=dict(found),
            expected=dict(expected),
            files=files,
        )
        write_atomically(self._path / MANIFEST, manifest.to_json().encode())
        self._remove_leftovers(manifest)
        return manifest

    def _write_files(self, rows: _Parts) -> tuple[tuple[LakeFile, ...], str]:
        """The Parquet files of all rows in their final order, and the hash of their content.

        Pixels are stored as one binary value per face: Parquet has no bytes type for numbers and
        would keep every pixel as a 32-bit integer, ten times slower to read.
        """
        pixels, labels = blake(), blake(repr((self._corpus, self._shape)).encode())
        step = max(1, _FILE_BYTES // int(np.prod(self._shape)))
        with ThreadPoolExecutor(_WRITERS) as writers:
            written: list[Future[LakeFile]] = []
            for start in range(0, rows.count, step):
                table, pixels_NP = rows.read(start, start + step)
                packed = pa.Array.from_buffers(
                    pa.binary(pixels_NP.shape[1]), len(pixels_NP), [None, pa.py_buffer(pixels_NP)]
                )
                whole = table.append_column(IMAGE, packed)
                written.append(writers.submit(self._write_file, len(written), whole))
                pixels.update(pixels_NP.data)
                told = table.drop_columns([THUMBNAIL]).to_pylist()
                labels.update("\n".join(map(json.dumps, told)).encode() + b"\n")
                for done in written[:-_WRITERS]:
                    done.result()
            files = tuple(file.result() for file in written)
        labels.update(pixels.digest())
        return files, labels.hexdigest()

    def _write_file(self, index: int, table: pa.Table) -> LakeFile:
        sink = io.BytesIO()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            compression_level=1,
            use_dictionary=[  # pyright: ignore[reportArgumentType]
                name for name in table.column_names if name != IMAGE
            ],
        )
        content = sink.getbuffer()
        file_hash = blake(content).hexdigest()
        name = f"faces-{index:05d}-{file_hash[:8]}.parquet"
        write_atomically(self._path / name, content)
        return LakeFile(name=name, rows=table.num_rows, num_bytes=len(content), hash=file_hash)

    def _refuse_other_lake(self) -> None:
        if not (self._path / MANIFEST).is_file():
            return
        there = Manifest.read(self._path, older=True)
        shape = (there.image_size, there.image_size, there.channels)
        if (there.corpus, shape) != (self._corpus, self._shape):
            raise ValueError(
                f"the lake at {self._path} holds {there.corpus} faces {_size_text(shape)}, not "
                f"{self._corpus} faces {_size_text(self._shape)}: choose another folder"
            )

    def _remove_leftovers(self, manifest: Manifest) -> None:
        named = {file.name for file in manifest.files}
        for path in self._path.glob("faces-*.parquet"):
            if path.name not in named:
                path.unlink()
        shutil.rmtree(self._path / PARTS)


class _Parts:
    """The rows of all parts in their final order; pixels are read from disk as they are needed."""

    def __init__(self, parts: Sequence[Path], schema: pa.Schema) -> None:
        tables = [pa.ipc.open_file(pa.memory_map(str(part))).read_all() for part in parts]
        rows = pa.concat_tables([schema.empty_table(), *tables])
        keys = list(zip(rows["name"].to_pylist(), rows["sample_id"].to_pylist(), strict=True))
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
        self.labels = rows.drop_columns([IMAGE]).combine_chunks().take(order)
        self.count = len(order)
        self._num_bytes = int(np.prod(schema.field(IMAGE).type.shape))
        self._pixels = [_pixels(chunk, self._num_bytes) for chunk in rows[IMAGE].chunks]
        starts = np.cumsum([0, *(len(part) for part in self._pixels)])
        self._part = np.searchsorted(starts, order, side="right") - 1
        self._within = order - starts[self._part]

    def read(self, start: int, stop: int) -> tuple[pa.Table, np.ndarray]:
        """The labels and the pixels (uint8 N x H*W*C) of rows start to stop."""
        labels = self.labels.slice(start, stop - start).combine_chunks()
        pixels_NP = np.empty((labels.num_rows, self._num_bytes), np.uint8)
        where = zip(self._part[start:stop], self._within[start:stop], strict=True)
        for pixels_P, (part, within) in zip(pixels_NP, where, strict=True):
            pixels_P[:] = self._pixels[part][within]
        return labels, pixels_NP


def _pixels(chunk: pa.ExtensionArray, num_bytes: int) -> np.ndarray:
    return chunk.storage.flatten().to_numpy(zero_copy_only=True).reshape(-1, num_bytes)


def _quarantine(rejected: Sequence[Rejection]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "reason", "detail"))
    writer.writerows(sorted((one.name, one.reason, one.detail) for one in rejected))
    return text.getvalue().encode()


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _size_text(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    return f"of {height}x{width} px in {'grey' if channels == 1 else 'colour'}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lake:
    """A whole lake, opened: `table` has what is known of each face, `faces` has the pixels."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Lake:
        """The lake in the folder `path`.

        ValueError where there is none, where it is half-written or damaged (files are checked by
        size; `verify` checks their content), or where another version made it.
        """
        path = Path(path)
        lake = cls(path=path, manifest=Manifest.read(path))
        for file in lake.manifest.files:
            found = path / file.name
            size = found.stat().st_size if found.is_file() else None
            if size != file.num_bytes:
                what = "is missing" if size is None else f"has {size} bytes, not {file.num_bytes}"
                raise ValueError(f"damaged lake at {path}: {file.name} {what}; ingest it again")
        return lake

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def hash(self) -> str:
        """Names the lake's content; it goes into the record of every run."""
        return self.manifest.hash

    @cached_property
    def table(self) -> pa.Table:
        """All rows in their order, without pixels and thumbnails."""
        whole = face_schema(self.manifest.image_size, self.manifest.channels)
        schema = pa.schema([one for one in whole if one.name not in (IMAGE, THUMBNAIL)])
        files = [self.path / file.name for file in self.manifest.files]
        tables = [pq.ParquetFile(file).read(columns=schema.names) for file in files]
        # a lake made before a column came has nothing in it
        tables = [schema.empty_table(), *tables]
        return pa.concat_tables(tables, promote_options="default").combine_chunks()

    @cached_property
    def faces(self) -> np.ndarray:
        """All faces, uint8 N x H x W x C, read-only, mapped from a file that the node shares."""
        side, channels = self.manifest.image_size, self.manifest.channels
        unpacked = unpack_once(self.path, self.manifest)
        return np.asarray(
            np.memmap(unpacked, np.uint8, "r", shape=(len(self), side, side, channels))
        )

    def require_size(self, image_size: int) -> None:
        """ValueError where the faces are smaller than `image_size` pixels."""
        if self.manifest.image_size < image_size:
            raise ValueError(
                f"the lake at {self.path} has faces of {self.manifest.image_size} px and the run "
                f"needs {image_size} px: ingest with --size {image_size} or more"
            )

    def verify(self) -> None:
        """Reads every file; ValueError names the first whose content is not what was written."""
        for file in self.manifest.files:
            read_checked(self.path, file)

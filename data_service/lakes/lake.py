"""A lake: the faces of a corpus on disk, aligned, labelled, hashed and never changed.

Parquet files of rows sorted by name, `quarantine.csv` of what was refused, and `manifest.json`,
which is written last: a folder without it is no lake. Pixels are unpacked once per node into one
file that all processes of the node map into memory.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.lock import held
from data_service.lakes.elsewhere import fetched
from data_service.lakes.files import Seen, write_files
from data_service.lakes.kept import KeptTables
from data_service.lakes.manifest import (
    IMAGE,
    MANIFEST,
    PARTS,
    THUMBNAIL,
    Manifest,
    read_checked,
    write_atomically,
)
from data_service.lakes.mapped import MappedFaces
from data_service.lakes.sorted_rows import SortedRows
from data_service.lakes.unpacked import unpack_once
from data_service.schema import Rejection, face_schema

LOCK = ".lock"
"""Who holds it writes the lake. It lies outside of the parts, which go while it is held."""


class LakeWriter:
    """Collects rows in any order and makes a lake of them; the lake does not depend on the order.

    An existing lake stays whole and readable until `finish` has written its successor. `work` names
    what rows are made from, and how: a writer of the same work takes over the parts that one before
    it left. ValueError where the folder holds a lake of another corpus or picture size, or another
    process writes to it.
    """

    def __init__(
        self,
        path: Path,
        *,
        corpus: str,
        image_size: int,
        channels: int,
        source_hash: str,
        work: str | None = None,
    ) -> None:
        self._path = Path(path)
        self._corpus = corpus
        self._shape = (image_size, image_size, channels)
        self._source_hash = source_hash
        self._schema = face_schema(image_size, channels)
        self._refuse_other_lake()
        busy = f"the lake at {self._path} is being written by another process"
        self._lock = _locked(self._path / LOCK, busy)
        for other in (self._path / PARTS).glob("*"):
            if other.is_dir() and other.name != work:
                shutil.rmtree(other)
        for draft in self._path.glob(".*.draft"):  # of the dead, as the lock is here
            draft.unlink(missing_ok=True)
        self.parts = KeptTables(self._path / PARTS / (work or "rows"))

    def append(
        self, table: pa.Table, rejected: Sequence[Rejection] = (), part: int | None = None
    ) -> None:
        """Keeps rows of `face_schema`, and what was rejected beside them, as a part on disk.

        Without a number the part is the next one.
        """
        if not table.schema.equals(self._schema):
            raise ValueError(f"these are no rows of {self._corpus} faces {self._shape}")
        told = {"rejected": [asdict(one) for one in rejected]}
        self.parts.write(len(self.parts) if part is None else part, table, told)

    def kept(self, part: int) -> tuple[pa.Table, list[Rejection]]:
        """Rows and rejections of a part."""
        table, told = self.parts.read(part)
        return table, [Rejection(**one) for one in told["rejected"]]

    def finish(
        self,
        rejected: Sequence[Rejection],
        found: Mapping[str, int],
        expected: Mapping[str, int],
        *,
        keep_parts: bool = False,
        seen: Seen | None = None,
    ) -> Manifest:
        """Writes the lake, its manifest last, and removes what it replaces and the parts.

        With `keep_parts` these stay until `remove_parts`: who still has something to do that a
        killed process should not do again. `seen` is shown all rows as they are written.
        """
        self._refuse_other_lake()
        tables = [self.kept(part)[0] for part in self.parts]
        rows = SortedRows(tables, self._schema)
        if not rows.count:
            raise ValueError(f"no face to write: the lake at {self._path} would be empty")
        kind = repr((self._corpus, self._shape))
        files, content = write_files(self._path, rows, kind, seen)
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
        self._remove_replaced(manifest)
        if not keep_parts:
            self.remove_parts()
        return manifest

    def remove_parts(self) -> None:
        """Lets go of all parts, and of the lock."""
        shutil.rmtree(self._path / PARTS)
        (self._path / LOCK).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets go of the lock; the parts stay for who goes on."""
        self._lock.close()

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

    def _remove_replaced(self, manifest: Manifest) -> None:
        named = {file.name for file in manifest.files}
        for path in self._path.glob("faces-*.parquet"):
            if path.name not in named:
                path.unlink()


def _locked(path: Path, busy: str) -> IO[str]:
    """The lock at `path`, as `held`; not one that was removed while this process waited for it."""
    while True:
        lock = held(path, busy)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()


def _quarantine(rejected: Sequence[Rejection]) -> bytes:
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    # Python 3.11 writes a carriage return bare, and readers end the line there
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(("name", "reason", "detail"))
    for cells in sorted((one.name, one.reason, one.detail) for one in rejected):
        (quoting if "\r" in "".join(cells) else plain).writerow(cells)
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
    files: Path
    """The folder of its Parquet files: `path`, or this node's copy of a lake elsewhere."""

    @classmethod
    def open(cls, path: Path) -> Lake:
        """The lake in the folder `path`, which may stand for one in a storage service.

        ValueError where there is none, where it is half-written or damaged (files are checked by
        size; `verify` checks their content), or where another version made it.
        """
        path = Path(path)
        manifest = Manifest.read(path)
        lake = cls(path=path, manifest=manifest, files=fetched(path, manifest))
        for file in manifest.files:
            found = lake.files / file.name
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
        tables = [schema.empty_table()]  # a lake made before a column came has nothing in it
        for file in self.manifest.files:
            tables.append(pq.ParquetFile(self.files / file.name).read(columns=schema.names))
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        del tables
        pa.default_memory_pool().release_unused()  # else twice the table stays the process's own
        return table

    @cached_property
    def faces(self) -> np.ndarray:
        """All faces, uint8 N x H x W x C, read-only."""
        return self.mapped.faces

    @cached_property
    def mapped(self) -> MappedFaces:
        """The file of all faces, which all processes of a node share."""
        side, channels = self.manifest.image_size, self.manifest.channels
        shape = (len(self), side, side, channels)
        return MappedFaces(unpack_once(self.files, self.manifest), shape)

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
            read_checked(self.files, file)

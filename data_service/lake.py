"""A lake: the faces of a corpus on disk, aligned, labelled, hashed and never changed.

Parquet files of rows sorted by name, `quarantine.csv` of what was refused, and `manifest.json`,
which is written last: a folder without it is no lake. Pixels are unpacked once per node into one
file that all processes of the node map into memory.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_service.schema import Rejection, face_schema

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_PARTS = ".parts"
_FILE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeFile:
    """One Parquet file of a lake: rows, size and hash."""

    name: str
    rows: int
    num_bytes: int
    hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a lake holds. `hash` is of the faces and their labels, whatever wrote the files.

    `classes` and `alignments` count rows (`unlabelled`: without an expression), `rejected` counts
    refused files by reason; `found` and `expected` are counts that the corpus' module made.
    """

    corpus: str
    image_size: int
    channels: int
    count: int
    subjects: int
    source_hash: str
    hash: str
    classes: Mapping[str, int]
    alignments: Mapping[str, int]
    rejected: Mapping[str, int]
    found: Mapping[str, int]
    expected: Mapping[str, int]
    files: tuple[LakeFile, ...] = field(repr=False)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The manifest as it stands in `manifest.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the lake in `folder`; ValueError says why there is none."""
        path = folder / MANIFEST
        if not path.is_file():
            raise ValueError(_why_no_lake(folder))
        try:
            values = json.loads(path.read_text())
            version = values["format_version"]
            if version > FORMAT_VERSION:
                raise _NewerVersionError(
                    f"the lake at {folder} was made by a newer version (format {version}; this "
                    f"version reads up to {FORMAT_VERSION}): update mien or ingest again"
                )
            files = tuple(LakeFile(**file) for file in values.pop("files"))
            return cls(**values, files=files)
        except _NewerVersionError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"damaged lake: {path} cannot be read: {error}") from None


class _NewerVersionError(ValueError):
    pass


def _why_no_lake(folder: Path) -> str:
    if not folder.is_dir():
        return f"no lake at {folder}: there is no such folder"
    if (folder / _PARTS).exists() or any(folder.glob("faces-*.parquet")):
        return f"half-written lake at {folder}: {MANIFEST} is missing; ingest it again"
    return f"no lake at {folder}: the folder has no {MANIFEST}"


class LakeWriter:
    """Collects rows in any order and makes a lake of them; the lake does not depend on the order.

    An existing lake stays whole and readable until `finish` has written its successor.
    """

    def __init__(
        self, path: Path, *, corpus: str, image_size: int, channels: int, source_hash: str
    ) -> None:
        self._path = path
        self._corpus = corpus
        self._image_size = image_size
        self._channels = channels
        self._source_hash = source_hash
        self._schema = face_schema(image_size, channels)
        self._parts: list[Path] = []
        self._refuse_other_lake()
        shutil.rmtree(path / _PARTS, ignore_errors=True)
        (path / _PARTS).mkdir(parents=True)

    def append(self, table: pa.Table) -> None:
        """Keeps rows of `face_schema`; on return they are on disk as one more numbered part."""
        if not table.schema.equals(self._schema):
            raise ValueError(f"rows of another schema than {self._image_size} px faces: {table}")
        part = self._path / _PARTS / f"part-{len(self._parts):06d}.arrow"
        draft = part.with_suffix(".draft")
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_table(table)
        os.replace(draft, part)
        self._parts.append(part)

    def finish(
        self,
        rejected: Sequence[Rejection],
        found: Mapping[str, int],
        expected: Mapping[str, int],
    ) -> Manifest:
        """Writes the lake, its manifest last, and removes the parts and what it replaces."""
        self._refuse_other_lake()
        sources = [pa.memory_map(str(part)) for part in self._parts]
        tables = [pa.ipc.open_file(source).read_all() for source in sources]
        rows = pa.concat_tables(tables) if tables else self._schema.empty_table()
        rows = rows.take(
            pa.compute.sort_indices(
                rows.select(["name", "sample_id"]),
                sort_keys=[("name", "ascending"), ("sample_id", "ascending")],
            )
        ) if False else rows
        manifest = self._write(rows, rejected, found, expected)
        shutil.rmtree(self._path / _PARTS)
        return manifest

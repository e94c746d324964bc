"""Finished pieces of a job on disk, so that one that is killed goes on where it stood."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

_TOLD = b"told"


class KeptTables:
    """Arrow tables by number, each with a few plain values; a table is there wholly or not at all.

    A file's name has the checksum (CRC-32) of its content. A process that dies leaves no half file
    under such a name, and a machine that dies may, which the sum tells: so nothing waits for the
    disk here.
    """

    def __init__(self, folder: Path) -> None:
        """Takes over what is whole in the folder, and removes what is not."""
        self._folder = folder
        self._files: dict[int, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            number, _, checksum = path.stem.partition("-")
            if path.suffix == ".arrow" and _checksum_of(path) == checksum:
                self._files[int(number)] = path
            else:
                path.unlink()

    def __contains__(self, number: int) -> bool:
        return number in self._files

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    def write(self, number: int, table: pa.Table, told: Mapping[str, Any]) -> None:
        """Keeps a table with what is told of it; ValueError where the number is taken."""
        if number in self._files:
            raise ValueError(f"part {number} is kept already")
        sink = pa.BufferOutputStream()
        named = table.combine_chunks().replace_schema_metadata({_TOLD: json.dumps(dict(told))})
        with pa.ipc.new_file(sink, named.schema) as writer:
            writer.write_table(named)
        content = memoryview(sink.getvalue())
        path = self._folder / f"{number:06d}-{_checksum(content)}.arrow"
        draft = path.with_suffix(".draft")
        draft.write_bytes(content)
        os.replace(draft, path)
        self._files[number] = path

    def read(self, number: int) -> tuple[pa.Table, dict[str, Any]]:
        """A kept table, mapped from the disk, and what is told of it."""
        table = pa.ipc.open_file(pa.memory_map(str(self._files[number]))).read_all()
        told = json.loads(table.schema.metadata[_TOLD])
        return table.replace_schema_metadata(None), told


def _checksum(content: memoryview) -> str:
    return f"{zlib.crc32(content):08x}"


def _checksum_of(path: Path) -> str:
    with pa.memory_map(str(path)) as file:
        return _checksum(memoryview(file.read_buffer()))

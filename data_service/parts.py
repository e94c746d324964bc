"""What came of attempts at synthetic faces, batch by batch, on disk until the pool is sealed."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_service.manifest import write_atomically
from data_service.pool import ROW_SCHEMA

PART_SCHEMA = ROW_SCHEMA.append(pa.field("pixels", pa.binary()))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """What came of one batch of attempts: admitted rows with their pixels, refusals by reason."""

    rows: pa.Table
    tried: int
    refused: Mapping[str, int]


class Parts:
    """Finished batches on disk, so that an interrupted job loses no more than one."""

    def __init__(self, path: Path, recipe: str) -> None:
        self._folder = path / f".parts-{recipe[:16]}"
        self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Part | None:
        """The part of that name, if it is there."""
        file = self._folder / f"{name}.arrow"
        if not file.is_file():
            return None
        rows = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        told = json.loads(rows.schema.metadata[b"told"])
        return Part(rows=rows.replace_schema_metadata(None), **told)

    def write(self, name: str, part: Part) -> None:
        """Keeps a part."""
        told = json.dumps({"tried": part.tried, "refused": dict(part.refused)})
        rows = part.rows.replace_schema_metadata({"told": told})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        write_atomically(self._folder / f"{name}.arrow", memoryview(sink.getvalue()))

    def remove(self) -> None:
        """Lets go of all parts."""
        shutil.rmtree(self._folder)


class Tally:
    """All parts so far: counts by class, refusals by reason, admitted faces by source."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.attempts: Counter[int] = Counter()
        self.admitted: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self._by_source: defaultdict[int, list[bytes]] = defaultdict(list)

    def add(self, klass: int, part: Part) -> None:
        """Counts a part of class `klass`."""
        self.parts.append(part)
        self.attempts[klass] += part.tried
        self.admitted[klass] += part.rows.num_rows
        self.refused.update(part.refused)
        for row in part.rows.select(["source_row", "pixels"]).to_pylist():
            self._by_source[row["source_row"]].append(row["pixels"])

    def of_source(self, source_row: int, shape: tuple[int, int, int]) -> np.ndarray:
        """The faces (uint8 N x H x W x C) that were admitted of a source."""
        pixels = self._by_source.get(source_row, [])
        return np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, *shape)

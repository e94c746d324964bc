"""What came of attempts at synthetic faces, batch by batch, on disk until the pool is sealed.

Shapes: M faces, H height, W width, C channels.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_service.lakes.manifest import write_atomically
from data_service.synthesis.near_copies import NearCopies


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """What came of one batch of attempts at class `klass`: rows (EXAMPLE_SCHEMA), refusals.

    An admitted face has an empty reason; of refused ones there are only examples. The gate let
    `passed` of the attempts pass.
    """

    klass: int
    rows: pa.Table
    tried: int
    passed: int
    refused: Mapping[str, int]

    @property
    def judged(self) -> int:
        """The attempts until the class had enough; what passed thereafter was not looked at."""
        return self._num_admitted + sum(self.refused.values())

    @property
    def admitted(self) -> pa.Table:
        """The rows of admitted faces."""
        return self.rows.slice(0, self._num_admitted)

    @property
    def examples(self) -> pa.Table:
        """The rows of refused faces."""
        return self.rows.slice(self._num_admitted)

    @property
    def _num_admitted(self) -> int:
        """They come first, so that the pixels of none are copied."""
        return self.rows["reason"].to_pylist().count("")


class Parts:
    """Finished batches on disk, by number, so that an interrupted job loses no more than one.

    Each is there wholly or not at all: others may read them while more are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def require(self, recipe: str) -> None:
        """ValueError where the parts were made by another recipe; `recipe` names it from now on."""
        file = self._folder / "recipe"
        if not file.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, recipe.encode())
        if file.read_text() != recipe:
            raise ValueError(
                f"the faces in {self._folder} were made from another lake, fold, generator, gate "
                "or seed"
            )

    def read(self, number: int) -> Part | None:
        """The part of that number, if it is there; its pixels stay on the disk until needed."""
        file = self._folder / f"{number:08d}.arrow"
        if not file.is_file():
            return None
        rows = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        told = json.loads(rows.schema.metadata[b"told"])
        return Part(rows=rows.replace_schema_metadata(None), **told)

    def write(self, number: int, part: Part) -> None:
        """Keeps a part."""
        counts = {"klass": part.klass, "tried": part.tried, "passed": part.passed}
        told = json.dumps(counts | {"refused": dict(part.refused)})
        rows = part.rows.replace_schema_metadata({"told": told})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        write_atomically(self._folder / f"{number:08d}.arrow", memoryview(sink.getvalue()))

    def remove(self) -> None:
        """Lets go of all parts."""
        shutil.rmtree(self._folder, ignore_errors=True)


class Tally:
    """All parts so far: counts by class, refusals by reason, and the faces that were admitted."""

    def __init__(self, shape: tuple[int, int, int], seen: NearCopies) -> None:
        self.parts: list[Part] = []
        self.attempts: Counter[int] = Counter()
        self.judged: Counter[int] = Counter()
        self.passed: Counter[int] = Counter()
        self.admitted: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self.seen = seen
        self._shape = shape

    def add(self, part: Part) -> None:
        """Counts a part."""
        admitted = part.admitted
        self.parts.append(part)
        self.attempts[part.klass] += part.tried
        self.judged[part.klass] += part.judged
        self.passed[part.klass] += part.passed
        self.admitted[part.klass] += admitted.num_rows
        self.refused.update(part.refused)
        for face_HWC in faces_of(admitted, self._shape):
            self.seen.add(face_HWC)


def faces_of(rows: pa.Table, shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of the rows, uint8 M x H x W x C."""
    pixels = b"".join(rows["pixels"].to_pylist())
    return np.frombuffer(pixels, np.uint8).reshape(-1, *shape)

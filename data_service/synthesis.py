"""Fills the minority classes with synthetic faces of training subjects, through a gate, once.

FES-DA as in FERSNet: a generator gives training faces the expressions that are rare, a gate admits
what is good enough, and the admitted faces are sealed into a pool that the plan may then draw from.
Which generator and which gate is the caller's affair; here it is settled who may be a source, in
which order they are tried, when to stop, and how an interrupted job goes on.

Shapes: B attempts, C channels, S side of the faces that the generator sees, K classes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data_service import seeds
from data_service.folds import Fold, class_codes
from data_service.lake import Lake
from data_service.manifest import MANIFEST, blake
from data_service.parts import PART_SCHEMA, Part, Parts, Tally
from data_service.pool import PoolManifest, SealedPool, content_hash, write_pool
from data_service.schema import Expression
from data_service.transforms import centre_crop

__all__ = [
    "Admission",
    "Attempts",
    "SealedPool",
    "Synthesiser",
    "Verdict",
    "seal_pool",
]

ATTEMPTS_PER_FACE = 20
"""A class is given up after this many attempts for every face that it lacks."""

Progress = Callable[[int, int], None]


class Synthesiser(Protocol):
    """A trained generator. `hash` names its weights; `side` and `grey` say what it sees."""

    hash: str
    side: int
    grey: bool

    def __call__(self, faces_BCHW: Tensor, target_expression_B: Tensor) -> Tensor:
        """The faces (float32 in [-1, 1], on the CPU) with other expressions, each by itself."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attempts:
    """Synthetic faces before the gate, with what they were made from.

    `siblings` are the faces that were already admitted of the same source, each N x C x S x S.
    """

    made_BCHW: Tensor
    source_BCHW: Tensor
    source_rows: np.ndarray
    subjects: tuple[str | None, ...]
    target_expression_B: Tensor
    siblings: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Verdict:
    """Which attempts are admitted, and of the others why not (empty where admitted)."""

    admitted_B: np.ndarray
    reasons: tuple[str, ...]


class Admission(Protocol):
    """The gate. `hash` names the networks and thresholds that it decides by."""

    hash: str

    def __call__(self, attempts: Attempts) -> Verdict:
        """The verdict on every attempt; a function of the attempts alone."""
        ...


def seal_pool(
    lake: Lake,
    fold: Fold,
    classes: Sequence[Expression],
    synthesiser: Synthesiser,
    admission: Admission,
    *,
    path: Path,
    until: Literal["equal"] | int = "equal",
    seed: int = 0,
    batch: int = 64,
    fold_name: str = "",
    run: str = "",
    progress: Progress | None = None,
) -> SealedPool:
    """Makes faces until the classes of the fold's training faces are filled, and seals them.

    `until` equal fills every class to the size of the largest, a number to that many faces, real
    and synthetic together. Sources are training faces of other classes, each in turn, in an order
    drawn from `seed`; a class that does not fill in twenty attempts per missing face stays short,
    which the manifest tells. The same call again opens the pool that is there, or goes on where it
    was interrupted. `progress(admitted, wanted)` is called as faces are admitted. `fold_name` and
    `run` (the generator's) are only told in the manifest. ValueError where `path` holds a pool made
    otherwise.
    """
    job = _Job(lake, fold, tuple(classes), synthesiser, admission, until, seed, batch)
    if (path / MANIFEST).is_file():
        return _same(SealedPool.open(path), job.recipe)
    parts, tally = Parts(path, job.recipe), Tally()
    for klass, wanted in enumerate(job.wanted):
        for first, stop in job.batches(klass):
            lacking = wanted - tally.admitted[klass]
            if lacking <= 0:
                break
            name = f"{klass:02d}-{first:08d}"
            part = parts.read(name)
            if part is None:
                part = job.attempt(klass, first, stop, lacking, tally)
                parts.write(name, part)
            tally.add(klass, part)
            if progress:
                progress(tally.admitted.total(), sum(job.wanted))
    pool = job.seal(path, tally, fold_name, run)
    parts.remove()
    return pool


def _same(pool: SealedPool, recipe: str) -> SealedPool:
    if pool.manifest.recipe != recipe:
        raise ValueError(
            f"the pool at {pool.path} was made from another lake, fold, generator, gate or seed: "
            "choose another folder"
        )
    return pool


@dataclass(eq=False)
class _Job:
    """What is to be made, and how one batch of it is."""

    lake: Lake
    fold: Fold
    classes: tuple[Expression, ...]
    synthesiser: Synthesiser
    admission: Admission
    until: Literal["equal"] | int
    seed: int
    batch: int

    def __post_init__(self) -> None:
        self.lake.require_size(self.synthesiser.side)
        train_rows = self.fold.train_rows
        codes = class_codes(self.lake.table, self.classes)[train_rows]
        sizes = [int((codes == klass).sum()) for klass in range(len(self.classes))]
        goal = max(sizes) if self.until == "equal" else self.until
        self.wanted = [max(goal - size, 0) for size in sizes]
        self._sources = [
            train_rows[(codes >= 0) & (codes != klass)] for klass in range(len(self.classes))
        ]
        self._subjects = self.lake.table["subject"].to_pylist()
        side, channels = self.lake.manifest.image_size, self.lake.manifest.channels
        self._shape = (side, side, channels)

    @cached_property
    def recipe(self) -> str:
        """Names all that determines the pool."""
        maker = (self.synthesiser.hash, self.synthesiser.side, self.synthesiser.grey)
        told = (self.lake.hash, self.fold.hash, self.classes, self.until, self.seed, self.batch)
        return blake(json.dumps((told, maker, self.admission.hash)).encode()).hexdigest()

    def batches(self, klass: int) -> Iterator[tuple[int, int]]:
        """First and end of every batch of attempts; none has a source twice."""
        count, cap = len(self._sources[klass]), self.wanted[klass] * ATTEMPTS_PER_FACE
        first = 0
        while count and first < cap:
            epoch_end = (first // count + 1) * count
            stop = min(first + self.batch, epoch_end, cap)
            yield first, stop
            first = stop

    def attempt(self, klass: int, first: int, stop: int, lacking: int, tally: Tally) -> Part:
        """Makes a batch of faces and lets through the gate as many as are lacking."""
        attempts, faces_BHWC = self._make(klass, self._source_rows(klass, first, stop), tally)
        verdict = self.admission(attempts)
        admitted = np.flatnonzero(verdict.admitted_B)[:lacking]
        made_BHWC = self._paste(
            faces_BHWC[admitted], attempts.made_BCHW[torch.from_numpy(admitted)]
        )
        maker = f"{self.synthesiser.hash}/{self.admission.hash}/{self.seed}/{self.classes[klass]}"
        numbers = [first + int(index) for index in admitted]
        rows = {
            "row_id": [blake(f"{maker}/{number}".encode()).hexdigest() for number in numbers],
            "source_row": attempts.source_rows[admitted],
            "subject": [attempts.subjects[index] for index in admitted],
            "expression": [str(self.classes[klass])] * len(numbers),
            "attempt": numbers,
            "pixels": [face_HWC.tobytes() for face_HWC in made_BHWC],
        }
        refused = Counter(reason for reason in verdict.reasons if reason)
        return Part(rows=pa.table(rows, schema=PART_SCHEMA), tried=stop - first, refused=refused)

    def _source_rows(self, klass: int, first: int, stop: int) -> np.ndarray:
        sources = self._sources[klass]
        epoch, place = divmod(first, len(sources))
        order = seeds.permutation(self.seed, f"sources/{klass}", epoch, len(sources))
        return sources[order[place : place + stop - first]]

    def _make(
        self, klass: int, source_rows: np.ndarray, tally: Tally
    ) -> tuple[Attempts, np.ndarray]:
        faces_BHWC = self.lake.faces[source_rows]
        source_BCHW = self._seen(faces_BHWC)
        target_B = torch.full((len(source_rows),), klass)
        attempts = Attempts(
            made_BCHW=self.synthesiser(source_BCHW, target_B).detach().float().cpu().clamp(-1, 1),
            source_BCHW=source_BCHW,
            source_rows=source_rows,
            subjects=tuple(self._subjects[row] for row in source_rows),
            target_expression_B=target_B,
            siblings=tuple(
                self._seen(tally.of_source(int(row), self._shape)) for row in source_rows
            ),
        )
        return attempts, faces_BHWC

    def _seen(self, faces_BHWC: np.ndarray) -> Tensor:
        """Faces as the generator sees them."""
        faces_BCHW = torch.tensor(faces_BHWC).permute(0, 3, 1, 2)
        return centre_crop(faces_BCHW, self.synthesiser.side, grey=self.synthesiser.grey)

    def _paste(self, source_BHWC: np.ndarray, made_BCHW: Tensor) -> np.ndarray:
        """The synthetic faces in the middle of their sources, whose margins they keep."""
        side = self.synthesiser.side
        start = (self._shape[0] - side) // 2
        pixels_BCHW = ((made_BCHW + 1) * 127.5).round().to(torch.uint8)
        pasted_BHWC = source_BHWC.copy()
        middle = slice(start, start + side)
        pasted_BHWC[:, middle, middle] = pixels_BCHW.permute(0, 2, 3, 1).numpy()
        return pasted_BHWC

    def seal(self, path: Path, tally: Tally, fold_name: str, run: str) -> SealedPool:
        """Writes the pool of all parts."""
        rows = pa.concat_tables([PART_SCHEMA.empty_table(), *(part.rows for part in tally.parts)])
        pixels = b"".join(rows["pixels"].to_pylist())
        faces_MHWC = np.frombuffer(pixels, np.uint8).reshape(-1, *self._shape)
        table = rows.drop_columns(["pixels"]).combine_chunks()
        names = [str(one) for one in self.classes]
        manifest = PoolManifest(
            recipe=self.recipe,
            lake=self.lake.hash,
            fold=self.fold.hash,
            generator=self.synthesiser.hash,
            gate=self.admission.hash,
            seed=self.seed,
            count=table.num_rows,
            image_size=self._shape[0],
            channels=self._shape[2],
            wanted=dict(zip(names, self.wanted, strict=True)),
            admitted={name: tally.admitted[klass] for klass, name in enumerate(names)},
            attempts={name: tally.attempts[klass] for klass, name in enumerate(names)},
            refused=dict(sorted(tally.refused.items())),
            hash=content_hash(table, faces_MHWC),
            fold_name=fold_name,
            run=run,
        )
        return write_pool(path, manifest, table, faces_MHWC)

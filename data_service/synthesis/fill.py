"""Fills the minority classes with synthetic faces of training subjects, through a gate, once.

FES-DA as in FERSNet: a generator gives training faces the expressions that are rare, a gate admits
what is good enough, and the admitted faces are sealed into a pool that the plan may then draw from.
Which generator and which gate is the caller's affair; here it is settled who may be a source, in
which order they are tried, that no admitted face is nearly another, when to stop, and how an
interrupted job goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from data_service import seeds
from data_service.folds import Fold, class_codes
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import MANIFEST, blake
from data_service.schema import Expression
from data_service.synthesis.attempts import (
    Admission,
    Crew,
    Made,
    Maker,
    Synthesiser,
    Work,
    here,
    seen_part,
)
from data_service.synthesis.near_copies import NearCopies
from data_service.synthesis.parts import Part, Parts, Tally, faces_of
from data_service.synthesis.pool import (
    EXAMPLE_SCHEMA,
    PoolManifest,
    SealedPool,
    content_hash,
    write_pool,
)

__all__ = ["SealedPool", "seal_pool"]

ATTEMPTS_PER_FACE = 20
"""A class is given up after this many attempts for every face that it lacks."""
NEAR_COPY = "near copy"
"""Why a face is refused that the gate would have let pass."""
CHANCE = "chance"
"""Why a face is refused of a class whose faces hardly pass more often than by the gate's errors."""
MOST_ERRORS = 1 / 3
"""Of a class' admitted faces no larger share may be the gate's errors, by how often it errs."""
EXAMPLES = 4
"""Refused faces that a pool keeps of each class and reason, to be looked at."""

Progress = Callable[[int, int], None]


def seal_pool(
    lake: Lake,
    fold: Fold,
    classes: Sequence[Expression],
    synthesiser: Synthesiser,
    admission: Admission,
    *,
    path: Path,
    until: Literal["equal"] | int = "equal",
    copy_gate: float = 0.0,
    seed: int = 0,
    batch: int = 64,
    fold_name: str = "",
    run: str = "",
    progress: Progress | None = None,
    crew: Crew | None = None,
    parts: Path | None = None,
) -> SealedPool:
    """Makes faces until the classes of the fold's training faces are filled, and seals them.

    `until` equal fills every class to the size of the largest, a number to that many faces, real
    and synthetic together. The classes take turns, a batch each. Sources are training faces of
    other classes, each in turn, in an order drawn from `seed`; a class that does not fill in twenty
    attempts per missing face stays short, which the manifest tells. A face that the gate lets pass
    is refused where it lies nearer than `copy_gate` to an admitted one of any source (mean absolute
    difference, in [0, 1]), or where faces of its class pass so seldom that they may be the gate's
    errors.

    The same call again opens the pool that is there, or goes on where it was interrupted. A `crew`
    of the same generator and gate makes the same pool. `progress(admitted, wanted)` is called as
    faces are admitted. `fold_name` and `run` (the generator's) are only told in the manifest.
    Finished batches lie in a folder of their own until the pool is sealed; in the folder `parts`
    they stay, for whoever reads them meanwhile. ValueError where `path` holds a pool made
    otherwise.
    """
    job = _Job(lake, fold, tuple(classes), synthesiser, admission, until, copy_gate, seed, batch)
    if (path / MANIFEST).is_file():
        return _same(SealedPool.open(path), job.recipe)
    kept = Parts(parts or path / f".parts-{job.recipe[:16]}")
    kept.require(job.recipe)
    tally = Tally(job.shape, NearCopies(job.seen, copy_gate))
    crew = crew or here(Maker(lake, synthesiser, admission))
    for part in _filled(job, kept, tally, crew):
        tally.add(part)
        if progress:
            progress(tally.admitted.total(), sum(job.wanted))
    pool = job.seal(path, tally, fold_name, run)
    if parts is None:
        kept.remove()
    return pool


def _filled(job: _Job, kept: Parts, tally: Tally, crew: Crew) -> Iterator[Part]:
    """Parts until every class is filled or given up: first those that are there, then new ones."""
    works, rest, number = job.works(tally), iter(()), 0
    for work in works:
        if (part := kept.read(number)) is None:
            rest = chain([work], works)
            break
        yield part
        number += 1
    with closing(crew(rest)) as results:
        for work, made in results:
            if job.lacking(work.klass, tally):  # else the class was filled while this was made
                part = job.admit(work, made, tally)
                kept.write(number, part)
                yield part
                number += 1


def _same(pool: SealedPool, recipe: str) -> SealedPool:
    if pool.manifest.recipe != recipe:
        raise ValueError(
            f"the pool at {pool.path} was made from another lake, fold, generator, gate or seed: "
            "choose another folder"
        )
    return pool


def least_rate(chance: float) -> float:
    """How often attempts must pass lest the errors be more than MOST_ERRORS of what is admitted.

    Attempts that show what they should pass always, say, others with that chance.
    """
    return chance / (chance + MOST_ERRORS * (1 - chance))


@dataclass(eq=False)
class _Job:
    """Which faces are to be made, in batches, and what becomes of them."""

    lake: Lake
    fold: Fold
    classes: tuple[Expression, ...]
    synthesiser: Synthesiser
    admission: Admission
    until: Literal["equal"] | int
    copy_gate: float
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
        self.shape = (side, side, channels)
        self.seen = seen_part(side, self.synthesiser.side)

    @cached_property
    def recipe(self) -> str:
        """Names all that determines the pool."""
        maker = (self.synthesiser.hash, self.synthesiser.side, self.synthesiser.grey)
        gate = (self.admission.hash, self.copy_gate)
        order = (self.seed, self.batch, "classes in turn")
        told = (self.lake.hash, self.fold.hash, self.classes, self.until, order)
        return blake(json.dumps((told, maker, gate)).encode()).hexdigest()

    def lacking(self, klass: int, tally: Tally) -> int:
        """How many faces of a class are still to be admitted."""
        return self.wanted[klass] - tally.admitted[klass]

    def works(self, tally: Tally) -> Iterator[Work]:
        """Batches of attempts, the classes in turn, each until it is filled or given up."""
        rest = {klass: self._works(klass) for klass in range(len(self.classes))}
        while rest:
            for klass, works in list(rest.items()):
                work = next(works, None) if self.lacking(klass, tally) > 0 else None
                if work is None:
                    del rest[klass]
                else:
                    yield work

    def _works(self, klass: int) -> Iterator[Work]:
        """Every batch of attempts at a class; none has a source twice."""
        sources, cap = self._sources[klass], self.wanted[klass] * ATTEMPTS_PER_FACE
        first = 0
        while len(sources) and first < cap:
            epoch, place = divmod(first, len(sources))
            order = seeds.permutation(self.seed, f"sources/{klass}", epoch, len(sources))
            chosen = order[place : place + min(self.batch, cap - first)]
            yield Work(first=first, klass=klass, source_rows=sources[chosen])
            first += len(chosen)

    def admit(self, work: Work, made: Made, tally: Tally) -> Part:
        """Of a batch, what the gate lets pass and is no near copy, as many as are lacking."""
        lacking = self.lacking(work.klass, tally)
        fresh = NearCopies(self.seen, self.copy_gate)
        passed = made.reasons.count("")
        reasons, kept = list(made.reasons), []
        if self._by_chance(work, passed, tally):
            reasons = [reason or CHANCE for reason in reasons]
        for index, face_HWC in enumerate(made.faces_BHWC):
            if reasons[index] or len(fresh) == lacking:
                continue
            if fresh.near(face_HWC) or tally.seen.near(face_HWC):
                reasons[index] = NEAR_COPY
            else:
                fresh.add(face_HWC)
                kept.append(index)
        refused = Counter(reason for reason in reasons if reason)
        for reason in refused:
            kept += [index for index, why in enumerate(reasons) if why == reason][:EXAMPLES]
        rows = self._rows(work, made, reasons, kept)
        return Part(klass=work.klass, rows=rows, tried=len(reasons), passed=passed, refused=refused)

    def _by_chance(self, work: Work, passed: int, tally: Tally) -> bool:
        """Whether the class passes so seldom, with this batch, that it may be the gate's errors."""
        tried = tally.attempts[work.klass] + len(work.source_rows)
        least = least_rate(self.admission.chance[work.klass])
        return tally.passed[work.klass] + passed < least * tried

    def _rows(self, work: Work, made: Made, reasons: list[str], kept: list[int]) -> pa.Table:
        klass = str(self.classes[work.klass])
        maker = f"{self.synthesiser.hash}/{self.admission.hash}/{self.seed}/{klass}"
        numbers = [work.first + index for index in kept]
        source_rows = work.source_rows[kept]
        rows = {
            "row_id": [blake(f"{maker}/{number}".encode()).hexdigest() for number in numbers],
            "source_row": source_rows,
            "subject": [self._subjects[row] for row in source_rows],
            "expression": [klass] * len(kept),
            "attempt": numbers,
            "reason": [reasons[index] for index in kept],
            "pixels": [made.faces_BHWC[index].tobytes() for index in kept],
        }
        return pa.table(rows, schema=EXAMPLE_SCHEMA)

    def seal(self, path: Path, tally: Tally, fold_name: str, run: str) -> SealedPool:
        """Writes the pool of all parts."""
        admitted = [part.admitted for part in sorted(tally.parts, key=lambda part: part.klass)]
        rows = pa.concat_tables([EXAMPLE_SCHEMA.empty_table(), *admitted])
        faces_MHWC = faces_of(rows, self.shape)
        table = rows.drop_columns(["reason", "pixels"]).combine_chunks()
        names = [str(one) for one in self.classes]
        manifest = PoolManifest(
            recipe=self.recipe,
            lake=self.lake.hash,
            fold=self.fold.hash,
            generator=self.synthesiser.hash,
            gate=self.admission.hash,
            seed=self.seed,
            count=table.num_rows,
            image_size=self.shape[0],
            channels=self.shape[2],
            wanted=dict(zip(names, self.wanted, strict=True)),
            admitted={name: tally.admitted[klass] for klass, name in enumerate(names)},
            attempts={name: tally.judged[klass] for klass, name in enumerate(names)},
            refused=dict(sorted(tally.refused.items())),
            hash=content_hash(table, faces_MHWC),
            fold_name=fold_name,
            run=run,
        )
        return write_pool(path, manifest, table, faces_MHWC, _examples(tally))


def _examples(tally: Tally) -> pa.Table:
    """The first refused faces of each class and reason."""
    rows = pa.concat_tables(
        [EXAMPLE_SCHEMA.empty_table(), *(part.examples for part in tally.parts)]
    ).combine_chunks()
    kept, counts = [], Counter()
    names = (rows[name].to_pylist() for name in ("expression", "reason"))
    for row, what in enumerate(zip(*names, strict=True)):
        counts[what] += 1
        if counts[what] <= EXAMPLES:
            kept.append(row)
    return rows.take(np.array(kept, np.int64))

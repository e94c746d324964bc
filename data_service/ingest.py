"""A corpus on disk becomes a lake: scan, make rows, write; what fails is kept with its reason.

Rows are made in this process or by Ray's (ingest_blocks.py), which write the same lake, bit for
bit. Faces are worked on in numbered blocks; those that are done lie in the lake's folder until it
is whole, and an ingest of the same faces, options and code (ingest_hashes.py) takes them over from
one that was killed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_service import corpora
from data_service.audit import audited
from data_service.audit.pictures import Pictures
from data_service.ingest_blocks import Blocks, blocks_of, made_blocks
from data_service.ingest_hashes import source_hash, work_hash
from data_service.lakes.lake import Lake, LakeWriter
from data_service.rows import Recipe
from data_service.schema import Rejection, Scan

FOUND = ("detector", "corpus", "box", "none")
MAX_IMAGE_SIZE = 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestReport:
    """What became of a corpus, for people and for `--json`.

    `found_share` is the share of faces that stand where known points put them: MTCNN's own, the
    corpus' own, or delivered aligned. `found` and `expected` are counts by the keys of
    `corpora.counts`; a complete copy of the corpus has the expected ones. `taken_over` counts the
    faces, rejected ones too, that an ingest before this one had finished; `copies` are pairs of
    faces that show the same, as `mien audit` lists them.
    """

    corpus: str
    lake: str
    faces: int
    rejected: int
    found_share: float
    by_reason: Mapping[str, int]
    by_class: Mapping[str, int]
    by_alignment: Mapping[str, int]
    found: Mapping[str, int]
    expected: Mapping[str, int]
    taken_over: int
    copies: int
    seconds: float
    faces_per_second: float

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


def ingest(
    corpus: str,
    source: Path | None,
    lake: Path,
    *,
    image_size: int = 128,
    channels: int = 3,
    workers: int | None = None,
    options: Mapping[str, Any] | None = None,
    scan: Scan | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Reads the corpus at `source`, places every face and writes the lake.

    `workers` bounds the processes, by default one for each CPU of the cluster; the lake does not
    depend on it. `options` go to the corpus' `scan`, unless that was done before and is given as
    `scan`. `progress(done, total)` is called as faces get done. ValueError for an unknown corpus or
    option, a source that is not that corpus or that not every machine sees, a lake that is the
    source itself or no folder, a picture size that cannot be, or where not one face is usable. A
    lake below the source is no part of it.
    """
    started = time.perf_counter()
    _check(image_size, channels, workers)
    require_own_folder(lake, source)
    scan = scan or corpora.scan(corpus, source, options or {}, image_size=image_size)
    recipe = Recipe(corpus=corpus, image_size=image_size, channels=channels, aligned=scan.aligned)
    if not scan.faces:
        raise ValueError(_nothing_usable(corpus, source, scan.rejected))
    blocks = blocks_of(scan.faces, recipe)
    tally = _Tally(rejected=list(scan.rejected))
    writer = LakeWriter(
        lake,
        corpus=corpus,
        image_size=image_size,
        channels=channels,
        source_hash=source_hash(scan, recipe),
        work=work_hash(scan, recipe),
    )
    with closing(writer):
        for done in _all_blocks(writer, recipe, blocks, workers, tally):
            if progress:
                progress(done, len(scan.faces))
        if not tally.faces:
            writer.remove_parts()
            with suppress(OSError):  # there is a lake from before
                lake.rmdir()
            raise ValueError(_nothing_usable(corpus, source, tally.rejected))
        pictures = Pictures.empty(tally.faces, channels)
        found = _found(scan, tally)
        writer.finish(tally.rejected, found, scan.expected, keep_parts=True, seen=pictures.add)
        copies = len(audited(Lake.open(lake), pictures).pairs)
        writer.remove_parts()
    seconds = time.perf_counter() - started
    return tally.report(corpus, lake, found, scan.expected, copies, seconds)


def _check(image_size: int, channels: int, workers: int | None) -> None:
    if not 16 <= image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image size {image_size}; valid: 16 to {MAX_IMAGE_SIZE}")
    if channels not in (1, 3):
        raise ValueError(f"{channels} channels; valid: 1 (grey) or 3 (RGB)")
    if workers is not None and workers < 1:
        raise ValueError(f"{workers} workers; valid: 1 or more")


def require_own_folder(lake: Path, source: Path | None) -> None:
    for path in (lake, *lake.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise ValueError(f"no lake can be at {lake}: {path} is no folder; valid: a new folder")
    if source is not None and os.path.realpath(lake) == os.path.realpath(source):
        raise ValueError(f"the lake {lake} is its source; valid: another folder, in it or not")


def _found(scan: Scan, tally: _Tally) -> dict[str, int]:
    """Counts of the listed faces that became rows."""
    lost = {one.name for one in tally.rejected[len(scan.rejected) :]}
    return corpora.counts([face for face in scan.faces if face.name not in lost])


def _all_blocks(
    writer: LakeWriter, recipe: Recipe, blocks: Blocks, workers: int | None, tally: _Tally
) -> Iterator[int]:
    """Keeps and tallies every block, those first that are kept already; gives the faces done."""
    for number in writer.parts:
        tally.add(*writer.kept(number))
    tally.taken_over = tally.done
    if tally.done:
        yield tally.done
    left = {number: faces for number, faces in blocks.items() if number not in writer.parts}
    for number, table, rejected in made_blocks(recipe, left, workers):
        if table.num_rows + len(rejected) != len(blocks[number]):
            raise RuntimeError(f"block {number} of the ingest did not come back whole")
        writer.append(table, rejected, part=number)
        tally.add(table, rejected)
        yield tally.done
    if missing := blocks.keys() - set(writer.parts):
        raise RuntimeError(f"blocks {sorted(missing)[:5]} of the ingest did not come back")


@dataclass(kw_only=True, slots=True)
class _Tally:
    rejected: list[Rejection]
    done: int = 0
    taken_over: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    by_alignment: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table, rejected: Sequence[Rejection]) -> None:
        self.by_class.update(one or "unlabelled" for one in table["expression"].to_pylist())
        self.by_alignment.update(table["alignment"].to_pylist())
        self.rejected += rejected
        self.done += table.num_rows + len(rejected)

    @property
    def faces(self) -> int:
        return self.by_alignment.total()

    def report(
        self,
        corpus: str,
        lake: Path,
        found: Mapping[str, int],
        expected: Mapping[str, int],
        copies: int,
        seconds: float,
    ) -> IngestReport:
        return IngestReport(
            corpus=corpus,
            lake=str(lake),
            faces=self.faces,
            rejected=len(self.rejected),
            found_share=sum(self.by_alignment[way] for way in FOUND) / self.faces,
            by_reason=_by_reason(self.rejected),
            by_class=dict(sorted(self.by_class.items())),
            by_alignment=dict(sorted(self.by_alignment.items())),
            found=dict(found),
            expected=dict(expected),
            taken_over=self.taken_over,
            copies=copies,
            seconds=round(seconds, 3),
            faces_per_second=round((self.done - self.taken_over) / seconds, 1),
        )


def _by_reason(rejected: Sequence[Rejection]) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in rejected).items()))


def _nothing_usable(corpus: str, source: Path | None, rejected: Sequence[Rejection]) -> str:
    reasons = ", ".join(f"{number} {reason}" for reason, number in _by_reason(rejected).items())
    return f"corpus {corpus} has no usable face in {source}; {reasons or 'nothing is listed'}"

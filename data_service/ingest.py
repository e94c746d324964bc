"""A corpus on disk becomes a lake: scan, make rows, write; what fails is kept with its reason.

With Ray initialised this is a Ray Data job over a pool of actors that each load the detector once;
without, it runs in this process. Both write the same lake, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from data_service import corpora
from data_service.lake import LakeWriter
from data_service.rows import Recipe, RowActor, RowMaker, listed_table, unpacked
from data_service.schema import Rejection, Scan, SourceFace

CHUNK_FACES = 16
MAX_BLOCKS = 4096
FOUND = ("detector", "corpus", "none")
MAX_IMAGE_SIZE = 1024

Progress = Callable[[int, int], None]
Made = tuple[pa.Table, list[Rejection]]


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestReport:
    """What became of a corpus, for people and for `--json`.

    `found_share` is the share of faces that stand where known points put them: MTCNN's own, the
    corpus' own, or delivered aligned. `found` and `expected` are counts by the keys of
    `corpora.counts`; a complete copy of the corpus has the expected ones.
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
    progress: Progress | None = None,
) -> IngestReport:
    """Reads the corpus at `source`, places every face and writes the lake.

    `workers` counts the actors of the Ray Data job, by default one for each CPU of the cluster; the
    lake does not depend on it. `options` go to the corpus' `scan`. `progress(done, total)` is
    called as faces get done. ValueError for an unknown corpus or option, a source that is not that
    corpus, a picture size that cannot be, or where not one face is usable.
    """
    started = time.perf_counter()
    if not 16 <= image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image size {image_size}; valid: 16 to {MAX_IMAGE_SIZE}")
    if channels not in (1, 3):
        raise ValueError(f"{channels} channels; valid: 1 (grey) or 3 (RGB)")
    if workers is not None and workers < 1:
        raise ValueError(f"{workers} workers; valid: 1 or more")
    scan = corpora.scan(corpus, source, options or {}, image_size=image_size)
    recipe = Recipe(corpus=corpus, image_size=image_size, channels=channels, aligned=scan.aligned)
    if not scan.faces:
        raise ValueError(_nothing_usable(corpus, source, scan.rejected))
    writer = LakeWriter(
        lake,
        corpus=corpus,
        image_size=image_size,
        channels=channels,
        source_hash=source_hash(scan, recipe),
    )
    tally = _Tally(rejected=list(scan.rejected))
    for table, rejected in _made(recipe, scan.faces, workers):
        tally.add(table, rejected)
        if table.num_rows:
            writer.append(table)
        if progress:
            progress(tally.done, len(scan.faces))
    if not tally.by_alignment:
        raise ValueError(_nothing_usable(corpus, source, tally.rejected))
    lost = {one.name for one in tally.rejected[len(scan.rejected) :]}
    found = corpora.counts([face for face in scan.faces if face.name not in lost])
    writer.finish(rejected=tally.rejected, found=found, expected=scan.expected)
    return tally.report(corpus, lake, found, scan.expected, time.perf_counter() - started)


def source_hash(scan: Scan, recipe: Recipe) -> str:
    """Names what is ingested and how: the listed faces with their labels, files' sizes, recipe."""
    digest = hashlib.blake2b(json.dumps(asdict(recipe), sort_keys=True).encode(), digest_size=16)
    for face in sorted(scan.faces, key=lambda face: face.name):
        size = face.path.stat().st_size if face.path and face.path.is_file() else 0
        told = (face.name, face.subject, face.sitting, face.sequence, face.frame)
        digest.update(json.dumps((*told, face.expression, size)).encode())
    return digest.hexdigest()


@dataclass(kw_only=True, slots=True)
class _Tally:
    rejected: list[Rejection]
    done: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    by_alignment: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table, rejected: Sequence[Rejection]) -> None:
        self.by_class.update(one or "unlabelled" for one in table["expression"].to_pylist())
        self.by_alignment.update(table["alignment"].to_pylist())
        self.rejected += rejected
        self.done += table.num_rows + len(rejected)

    def report(
        self,
        corpus: str,
        lake: Path,
        found: Mapping[str, int],
        expected: Mapping[str, int],
        seconds: float,
    ) -> IngestReport:
        faces = self.by_alignment.total()
        return IngestReport(
            corpus=corpus,
            lake=str(lake),
            faces=faces,
            rejected=len(self.rejected),
            found_share=sum(self.by_alignment[way] for way in FOUND) / faces,
            by_reason=_by_reason(self.rejected),
            by_class=dict(sorted(self.by_class.items())),
            by_alignment=dict(sorted(self.by_alignment.items())),
            found=dict(found),
            expected=dict(expected),
            seconds=round(seconds, 3),
            faces_per_second=round(faces / seconds, 1),
        )


def _by_reason(rejected: Sequence[Rejection]) -> dict[str, int]:
    return dict(sorted(Counter(one.reason for one in rejected).items()))


def _nothing_usable(corpus: str, source: Path | None, rejected: Sequence[Rejection]) -> str:
    reasons = ", ".join(f"{number} {reason}" for reason, number in _by_reason(rejected).items())
    return f"corpus {corpus} has no usable face in {source}; {reasons or 'nothing is listed'}"


def _made(recipe: Recipe, faces: Sequence[SourceFace], workers: int | None) -> Iterator[Made]:
    if ray.is_initialized():
        yield from _made_on_ray(recipe, faces, workers or int(ray.cluster_resources()["CPU"]))
        return
    maker = RowMaker(recipe)
    for chunk in _chunks(faces, CHUNK_FACES):
        yield maker.rows(chunk)


def _made_on_ray(recipe: Recipe, faces: Sequence[SourceFace], workers: int) -> Iterator[Made]:
    """The rows as actors deliver them, in no certain order.

    The listed faces are blocks from the start, so that no upstream task needs a CPU that the actors
    hold, and few blocks are in flight at a time, so that memory stays bounded.
    """
    import ray.data  # a second to import, and needed here only

    block_faces = CHUNK_FACES * -(-len(faces) // (CHUNK_FACES * MAX_BLOCKS))
    blocks = [listed_table(chunk) for chunk in _chunks(faces, block_faces)]
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with ray.data.DataContext.current(context):
        made = ray.data.from_arrow(blocks).map_batches(
            RowActor,
            fn_constructor_kwargs={"recipe": recipe},
            compute=ray.data.ActorPoolStrategy(
                size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=2
            ),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
        )
        for batch in made.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from unpacked(batch)


def _chunks(faces: Sequence[SourceFace], size: int) -> list[Sequence[SourceFace]]:
    """The faces in pieces of `size`; frames of one video stay together, so that it is read once."""
    chunks, start = [], 0
    while start < len(faces):
        stop = min(start + size, len(faces))
        while stop < len(faces) and _video(faces[stop - 1]) == _video(faces[stop]) is not None:
            stop += 1
        chunks.append(faces[start:stop])
        start = stop
    return chunks


def _video(face: SourceFace) -> tuple[Path | None, str] | None:
    return None if face.sequence is None else (face.path, face.sequence)

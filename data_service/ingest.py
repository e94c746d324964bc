"""A corpus on disk becomes a lake: scan, make rows, write; what fails is kept with its reason.

With Ray initialised its processes do it, each of which loads the detector once; without, it runs in
this process. Both write the same lake, bit for bit. The tasks are plain ones: actors would start
anew for every ingest (0.9 s), and those of a Ray Data job import pandas and Ray Data before they
begin (3 s) and pack every face three times.

Faces are worked on in numbered blocks; those that are done lie in the lake's folder until it is
whole, and an ingest of the same faces, options and code takes them over from one that was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from data_service import corpora
from data_service.audit import audited
from data_service.audit.pictures import Pictures
from data_service.lakes.lake import Lake, LakeWriter
from data_service.lakes.manifest import blake
from data_service.rows import Made, Recipe, RowMaker, made_rows
from data_service.schema import Rejection, Scan, SourceFace

CHUNK_FACES = 32
"""Of a block, which is kept as a whole."""
TASK_BLOCKS, TASK_BYTES = 4, 32 << 20
TASKS_AHEAD = 2
"""For each CPU: so many tasks are under way, and so many at most does a killed ingest do again."""
MAX_RETRIES = 3
MAX_BLOCKS = 4096
FOUND = ("detector", "corpus", "none")
MAX_IMAGE_SIZE = 1024

Progress = Callable[[int, int], None]
Blocks = Mapping[int, Sequence[SourceFace]]
Task = Sequence[tuple[int, Sequence[SourceFace]]]


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
    source itself, a picture size that cannot be, or where not one face is usable. A lake below the
    source is no part of it.
    """
    started = time.perf_counter()
    _check(image_size, channels, workers)
    _require_own_folder(lake, source)
    scan = scan or corpora.scan(corpus, source, options or {}, image_size=image_size)
    recipe = Recipe(corpus=corpus, image_size=image_size, channels=channels, aligned=scan.aligned)
    if not scan.faces:
        raise ValueError(_nothing_usable(corpus, source, scan.rejected))
    most = TASK_BYTES // _face_bytes(recipe)
    blocks = dict(enumerate(_chunks(scan.faces, _block_faces(scan.faces), most)))
    tally = _Tally(rejected=list(scan.rejected))
    writer = LakeWriter(
        lake,
        corpus=corpus,
        image_size=image_size,
        channels=channels,
        source_hash=source_hash(scan, recipe),
        work=_work_hash(scan, recipe),
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


def _require_own_folder(lake: Path, source: Path | None) -> None:
    if source is not None and os.path.realpath(lake) == os.path.realpath(source):
        raise ValueError(f"the lake {lake} is its source; valid: another folder, in it or not")


def _found(scan: Scan, tally: _Tally) -> dict[str, int]:
    """Counts of the listed faces that became rows."""
    lost = {one.name for one in tally.rejected[len(scan.rejected) :]}
    return corpora.counts([face for face in scan.faces if face.name not in lost])


def _block_faces(faces: Sequence[SourceFace]) -> int:
    return CHUNK_FACES * -(-len(faces) // (CHUNK_FACES * MAX_BLOCKS))


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
    for number, table, rejected in _made(recipe, left, workers):
        if table.num_rows + len(rejected) != len(blocks[number]):
            raise RuntimeError(f"block {number} of the ingest did not come back whole")
        writer.append(table, rejected, part=number)
        tally.add(table, rejected)
        yield tally.done
    if missing := blocks.keys() - set(writer.parts):
        raise RuntimeError(f"blocks {sorted(missing)[:5]} of the ingest did not come back")


def source_hash(scan: Scan, recipe: Recipe) -> str:
    """Names what is ingested and how: the listed faces with their labels, files' sizes, recipe."""
    digest = hashlib.blake2b(json.dumps(asdict(recipe), sort_keys=True).encode(), digest_size=16)
    for face in sorted(scan.faces, key=lambda face: face.name):
        state = _state(face)
        size = state.st_size if state else 0
        told = (face.name, face.subject, face.sitting, face.sequence, face.frame)
        digest.update(json.dumps((*told, face.expression, size)).encode())
    return digest.hexdigest()


def _work_hash(scan: Scan, recipe: Recipe) -> str:
    """Names the rows to come: all that is listed of each face, the files' state, and this code."""
    digest = blake(json.dumps([asdict(recipe), _block_faces(scan.faces)]).encode())
    for name in ("numpy", "opencv-python-headless", "onnxruntime", "Pillow", "av", "scipy"):
        digest.update(f"{name} {version(name)}\n".encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for face in scan.faces:
        state = _state(face)
        told = [getattr(face, name) for name in _TOLD_OF_A_FACE]
        told += [state.st_size, state.st_mtime_ns] if state else [None]
        digest.update(json.dumps(told, default=_plain).encode())
        if face.landmarks_L3 is not None:
            digest.update(np.asarray(face.landmarks_L3).tobytes())
    return digest.hexdigest()


def _state(face: SourceFace) -> os.stat_result | None:
    """Of the face's file, where there is an ordinary one."""
    try:
        state = os.stat(face.path) if face.path else None
    except OSError:
        return None
    return state if state and stat.S_ISREG(state.st_mode) else None


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping that is no dict, for JSON; TypeError for what is no mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} {value!r} in a listed face")
    return dict(value)


_TOLD_OF_A_FACE = tuple(
    item.name for item in fields(SourceFace) if item.name not in ("path", "landmarks_L3")
)


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


def _made(recipe: Recipe, blocks: Blocks, workers: int | None) -> Iterator[Made]:
    if blocks and ray.is_initialized():
        yield from _made_on_ray(recipe, blocks, workers)
        return
    maker = RowMaker(recipe)
    for number, faces in blocks.items():
        yield number, *maker.rows(faces)


def _cpus() -> int:
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if not cpus:
        raise ValueError("this Ray has no CPU yet; `mien cluster wait` waits for its machines")
    return cpus


def _made_on_ray(recipe: Recipe, blocks: Blocks, workers: int | None) -> Iterator[Made]:
    """The rows as processes of the cluster deliver them, in no certain order.

    There are `TASKS_AHEAD` tasks under way for each CPU, so that none waits, or `workers` in all:
    memory stays bounded. A task whose process ends is done anew by another.
    """
    at_once = workers or TASKS_AHEAD * _cpus()
    make: Any = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(made_rows)
    waiting = _tasks(recipe, blocks, at_once)
    under_way: dict[ray.ObjectRef, Task] = {}
    try:
        while True:
            for task in islice(waiting, at_once - len(under_way)):
                under_way[make.remote(recipe, task)] = task
            if not under_way:
                return
            (done,), _ = ray.wait(list(under_way))
            task = under_way.pop(done)
            made = _delivered(done, task)
            _require_shared(task, made)
            yield from made
    finally:
        for left in under_way:
            ray.cancel(left)


def _delivered(done: ray.ObjectRef, task: Task) -> Sequence[Made]:
    try:
        return ray.get(done)
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        names = [faces[edge].name for faces, edge in ((task[0][1], 0), (task[-1][1], -1))]
        what = f"a process that reads faces {names[0]} to {names[1]}"
        if isinstance(error, OutOfMemoryError):
            raise RuntimeError(f"{what} was ended, for its machine has too little memory") from None
        raise RuntimeError(f"{what} ended {MAX_RETRIES + 1} times") from None


def _require_shared(task: Task, made: Sequence[Made]) -> None:
    """ValueError where another machine did not find a file that is here: no fault of the file."""
    lost = {one.name for *_, rejected in made for one in rejected if one.reason == "file missing"}
    for path in (face.path for _, faces in task for face in faces if face.name in lost):
        if path is not None and path.is_file():
            raise ValueError(
                f"{path} is here, but not on every machine of the cluster: a source must lie in a "
                "folder that all machines share"
            )


def _tasks(recipe: Recipe, blocks: Blocks, at_once: int) -> Iterator[Task]:
    """The blocks in groups, as a process gets them: smaller ones at the end, so that all end
    together."""
    waiting = deque(blocks.items())
    while waiting:
        block_bytes = len(waiting[0][1]) * _face_bytes(recipe)
        bound = min(TASK_BLOCKS, len(waiting) // (2 * at_once), TASK_BYTES // block_bytes)
        yield [waiting.popleft() for _ in range(max(1, bound))]


def _face_bytes(recipe: Recipe) -> int:
    return recipe.image_size**2 * recipe.channels


def _chunks(faces: Sequence[SourceFace], size: int, most: int) -> list[Sequence[SourceFace]]:
    """The faces in pieces of `size`; frames of one video stay together, so that it is read once,
    but for a video of more than `most` frames, whose piece would not fit into memory."""
    chunks, start = [], 0
    while start < len(faces):
        stop = min(start + size, len(faces))
        last = min(start + most, len(faces))
        while stop < last and _video(faces[stop - 1]) == _video(faces[stop]) is not None:
            stop += 1
        chunks.append(faces[start:stop])
        start = stop
    return chunks


def _video(face: SourceFace) -> tuple[Path | None, str] | None:
    return None if face.sequence is None else (face.path, face.sequence)

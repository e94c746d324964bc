"""Faces in numbered blocks become rows, in this process or in those of the cluster.

With Ray initialised its processes do it, each of which loads the detector once; without, it runs in
this process. The tasks are plain ones: actors would start anew for every ingest (0.9 s), and those
of a Ray Data job import pandas and Ray Data before they begin (3 s) and pack every face three
times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from data_service.rows import Made, Recipe, RowMaker, made_rows
from data_service.schema import SourceFace

CHUNK_FACES = 32
"""Of a block, which is kept as a whole."""
TASK_BLOCKS, TASK_BYTES = 4, 32 << 20
TASKS_AHEAD = 2
"""For each CPU: so many tasks are under way, and so many at most does a killed ingest do again."""
MAX_RETRIES = 3
MAX_BLOCKS = 4096

Blocks = Mapping[int, Sequence[SourceFace]]
Task = Sequence[tuple[int, Sequence[SourceFace]]]


def blocks_of(faces: Sequence[SourceFace], recipe: Recipe) -> Blocks:
    """All faces in their order, in blocks by their numbers."""
    most = TASK_BYTES // _face_bytes(recipe)
    return dict(enumerate(_chunks(faces, block_faces(faces), most)))


def block_faces(faces: Sequence[SourceFace]) -> int:
    """How many of the faces make a block, so that there are at most `MAX_BLOCKS`."""
    return CHUNK_FACES * -(-len(faces) // (CHUNK_FACES * MAX_BLOCKS))


def made_blocks(recipe: Recipe, blocks: Blocks, workers: int | None) -> Iterator[Made]:
    """The rows of every block, in no certain order; `workers` bounds the processes of the cluster.

    ValueError for a cluster without a CPU, and where a machine does not find a file that is here;
    RuntimeError where the process of a block ends again and again.
    """
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

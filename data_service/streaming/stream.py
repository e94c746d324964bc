"""Executes a plan ahead of the trainer: one stream for each worker, for the whole run.

A stream begins at any step, keeps the order of the plan, and ends when its iterator is closed. On
Ray it is one Ray Data execution per worker process: its blocks are ranges of steps, its only
operator an actor that builds whole batches from the node's mapped faces, its rows whole batches,
which the trainer reads from the object store without a copy. Without Ray a thread does the same.
Both give the same batches, bit for bit.

Shapes: B samples, S side of a face, C channels.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from data_service.streaming.batcher import BatchActor
from data_service.streaming.packing import PackedBatch, batches_of
from data_service.streaming.source import FaceSource

if TYPE_CHECKING:
    from ray.data import DataContext

STEPS_PER_TASK = 256
"""Steps of one Ray Data task, at least: what is built again when a worker process dies."""

MAX_TASKS = 512

BLOCK_BYTES = 24 << 20
"""Batches are joined to blocks of at most this size, for Ray spends milliseconds on each."""


@contextmanager
def open_stream(
    source: FaceSource,
    *,
    start: int,
    stop: int,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 8,
    kind: Literal["local", "ray"] = "local",
) -> Iterator[Iterator[PackedBatch]]:
    """The batches of steps start to stop for worker `rank` of `world`, in order.

    Building begins at once. A thread goes at most `prefetch` batches ahead; Ray Data a few blocks,
    each of as many batches at most. Leaving the context ends what builds them, in mid-run too.
    """
    if kind == "ray":
        stream = _Ahead(ray_batches(source, start, stop, rank, world, prefetch), depth=1)
    else:
        stream = _Ahead(local_batches(source, start, stop, rank, world), depth=prefetch)
    try:
        yield stream
    finally:
        stream.close()


def local_batches(
    source: FaceSource, start: int, stop: int, rank: int, world: int
) -> Generator[PackedBatch]:
    """Builds the batches in this thread."""
    steps = (range(step, step + 1) for step in range(start, stop))
    for block in source.blocks(steps, rank, world):
        yield block.batches[0]


def ray_batches(
    source: FaceSource, start: int, stop: int, rank: int, world: int, prefetch: int
) -> Generator[PackedBatch]:
    """Has the batches built by one Ray Data execution; needs an initialised Ray, but no free CPU.

    Hence `from_items`, which makes its blocks here (reading or `from_arrow` would start tasks that
    wait for a CPU for ever where the workers hold them all), and an actor that takes no CPU.
    """
    if start >= stop:
        return
    import ray.data  # a second to import, and needed here only

    ranges, batch_bytes = _ranges(start, stop), source.most_bytes // world
    block_steps = max(1, min(BLOCK_BYTES // batch_bytes, prefetch))
    context = ray.data.DataContext.get_current().copy()
    _set_up(context, prefetch * batch_bytes, block_steps * batch_bytes)
    with ray.data.DataContext.current(context):
        built = ray.data.from_items(ranges, override_num_blocks=len(ranges)).map_batches(
            BatchActor,
            fn_constructor_args=(source, rank, world, block_steps),
            compute=ray.data.ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=1),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0,
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        )
    with _quiet("ray.data"):
        tables = iter(built.iter_batches(batch_size=None, batch_format="pyarrow"))
        with closing(tables):  # pyright: ignore[reportArgumentType]
            for table in tables:
                yield from batches_of(table)


def _ranges(start: int, stop: int) -> list[dict[str, int]]:
    """The first step alone, so that it is there soon, and the rest in few tasks."""
    size = max(STEPS_PER_TASK, -(-(stop - start) // MAX_TASKS))
    firsts = [start, *range(start + 1, stop, size)]
    return [
        {"start": first, "stop": end}
        for first, end in zip(firsts, [*firsts[1:], stop], strict=True)
    ]


def _set_up(context: DataContext, ahead_bytes: int, block_bytes: int) -> None:
    """How one execution among several behaves: in order, quiet, patient, within its share.

    What the actor yields is of that size, so Ray neither divides it nor joins it with another.
    """
    from data_service.streaming.pacing import Pause

    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    context.target_max_block_size = block_bytes
    context.custom_execution_callback_classes = [Pause]
    options = context.execution_options
    options.preserve_order = True
    limit = ahead_bytes + 2 * BLOCK_BYTES
    options.resource_limits = options.resource_limits.copy(object_store_memory=limit)


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Within, that logger tells errors only."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Ahead(Iterator[PackedBatch]):
    """Runs a generator in a thread, at most `depth` results ahead of who takes them."""

    def __init__(self, batches: Generator[PackedBatch], depth: int) -> None:
        self._batches = batches
        self._results: queue.Queue[PackedBatch | BaseException | None] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def __next__(self) -> PackedBatch:
        result = self._results.get()
        if isinstance(result, PackedBatch):
            return result
        self._results.put(result)
        if result is None:
            raise StopIteration
        raise result

    def close(self) -> None:
        """Ends the generator; returns when it has let go of everything."""
        self._closed.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._results.get_nowait()
            self._thread.join(0.02)

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            with closing(self._batches):
                for packed in self._batches:
                    self._results.put(packed)
                    if self._closed.is_set():
                        return
        except BaseException as error:
            end = error
        self._results.put(end)

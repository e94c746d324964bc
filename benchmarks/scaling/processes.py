"""Ranks on this machine: processes that train a recipe together over gloo."""

from __future__ import annotations

import os
import queue
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cluster.memory import keep_freed_blocks

IMAGES_PER_WORKER = 16
WARM_UP_STEPS = 10


def on_ranks(workers: int, threads: int, measured: Callable[..., Any], *given: Any) -> Any:
    """What `measured(workers, *given)` gives on rank 0 of so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    answers = context.Queue()
    whole = (workers, threads, port, answers, measured, *given)
    ranks = [context.Process(target=_rank, args=(rank, *whole)) for rank in range(workers)]
    for process in ranks:
        process.start()
    while True:
        try:
            found = answers.get(timeout=1)
            break
        except queue.Empty:
            if any(process.exitcode for process in ranks):
                for process in ranks:
                    process.kill()
                raise RuntimeError(f"a rank of {workers} ended before it told anything") from None
    for process in ranks:
        process.join()
    return found


def _rank(
    rank: int, workers: int, threads: int, port: int, answers: Any, measured: Any, *given: Any
) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_RANK=str(rank), **where)
    keep_freed_blocks()
    torch.set_num_threads(threads)
    dist.init_process_group("gloo")
    found = measured(workers, *given)
    if rank == 0:
        answers.put(found)
    dist.barrier()
    dist.destroy_process_group()


@contextmanager
def training(
    lake: Path, recipe: str, changes: Mapping[str, Any], warm_up: int = WARM_UP_STEPS
) -> Iterator[tuple[Any, Iterator[Any]]]:
    """A training of this process group after so many steps, and those that follow."""
    from data_service.lakes.lake import Lake
    from trainer import catalog, feed
    from trainer.loop import begin, fit
    from trainer.overrides import with_overrides
    from trainer.world import World

    world = World.of_process_group(torch.device("cpu"))
    settings = {
        "engine.workers": world.size,
        "data.global_batch_images": IMAGES_PER_WORKER * world.size,
        "data.stream": "local",
        "system.images": 10**6,
        **changes,
    }
    run, opened = with_overrides(catalog.recipe(recipe), settings), Lake.open(lake)
    spec = feed.spec_of(run)
    data = feed.prepare(run, spec, opened, "1/5")
    torch.manual_seed(run.seed)
    begun = begin(run, spec.build(run.system, data.info), world)
    with feed.open_batches(data, opened, None, begun, None) as batches:
        moving = fit(begun, batches)
        go(moving, warm_up)
        yield begun, moving


def go(moving: Iterator[Any], steps: int) -> float:
    """Take so many steps; the seconds that they took."""
    began = time.perf_counter()
    for _ in islice(moving, steps):
        pass
    return time.perf_counter() - began

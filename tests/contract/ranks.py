"""Groups of gloo ranks; the one of two is shared by all tests, and its processes start once."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def _serve(rank: int, size: int, port: int, pipe: Any) -> None:
    import logging
    import os

    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR="cpu",
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    logging.disable(logging.WARNING)
    from trainer.world import World

    world = World.of_process_group(torch.device("cpu"))
    while True:
        task = pipe.recv()
        if task is None:
            break
        function, arguments = task
        try:
            pipe.send((True, function(world, *arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
    torch.distributed.destroy_process_group()


class Ranks:
    """Processes that run the same function side by side."""

    def __init__(self, size: int = 2) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = mp.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(size):
            own, other = context.Pipe()
            process = context.Process(target=_serve, args=(rank, size, port, other), daemon=True)
            process.start()
            self.pipes.append(own)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any, seconds: float = 240) -> list[Any]:
        """`function(world, *arguments)` on every rank; its results in the order of ranks."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(seconds):
                raise TimeoutError(f"rank {rank} did not answer in {seconds} s")
            answers.append(pipe.recv())
        failed = [text for good, text in answers if not good]
        if failed:
            raise RuntimeError("\n".join(failed))
        return [value for _, value in answers]

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if process.is_alive():
                pipe.send(None)
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.kill()

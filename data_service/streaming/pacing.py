"""Keeps Ray Data's scheduler from spinning beside a trainer.

While finished blocks wait for their consumer, or Ray holds a block's maker back, the scheduler's
`ray.wait` returns at once, and its loop runs without a pause, in a thread of the process that
trains: with two workers on two cores that took two thirds of the training's rate. Pauses end it.
"""

from __future__ import annotations

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor

SHORTEST_SECONDS, LONGEST_SECONDS = 0.001, 0.02
"""A pause, and how long it grows while a finished block waits: its consumer is in no hurry."""


class Pause(ExecutionCallback):
    """Sleeps, without the interpreter's lock, after a turn of the scheduler's loop."""

    def __init__(self) -> None:
        self._turned, self._pause = time.monotonic(), SHORTEST_SECONDS

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """After each turn: a longer pause each time while a block waits, else the rest of 1 ms."""
        assert executor._output_node is not None, "the loop runs after the topology is built"
        if executor._output_node[1].output_queue.has_next():
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_SECONDS)
        else:
            self._pause = SHORTEST_SECONDS
            time.sleep(max(0.0, self._turned + SHORTEST_SECONDS - time.monotonic()))
        self._turned = time.monotonic()

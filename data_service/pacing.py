"""Keeps Ray Data's scheduler from spinning beside a trainer.

While finished blocks wait for their consumer, or Ray holds a block's maker back, the scheduler's
`ray.wait` returns at once, and its loop runs without a pause, in a thread of the process that
trains: with two workers on two cores that took two thirds of the training's rate. Pauses end it.
"""

from __future__ import annotations

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor

PAUSE_SECONDS = 0.02
"""Where a finished block waits, there is nothing to hurry for."""

TURN_SECONDS = 0.005
"""No turn of the loop is shorter; a block comes that much later at the most."""


class Pause(ExecutionCallback):
    """Sleeps, without the interpreter's lock, after a turn of the scheduler's loop."""

    def __init__(self) -> None:
        self._turned = time.monotonic()

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """After each turn: pause while a finished block waits, and after turns that did nothing."""
        assert executor._output_node is not None, "the loop runs after the topology is built"
        waits = executor._output_node[1].output_queue.has_next()
        rest = self._turned + TURN_SECONDS - time.monotonic()
        if waits or rest > 0:
            time.sleep(PAUSE_SECONDS if waits else rest)
        self._turned = time.monotonic()

"""Keeps Ray Data's scheduler from spinning beside a trainer.

While finished blocks wait for their consumer, the scheduler's `ray.wait` returns at once, and its
loop runs without a pause, in a thread of the process that trains: with two workers on two cores
that took two thirds of the training's rate. A pause in such turns of the loop ends it.
"""

from __future__ import annotations

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor

PAUSE_SECONDS = 0.02


class Pause(ExecutionCallback):
    """Sleeps, without the interpreter's lock, where there is nothing to hurry for."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """After each turn of the scheduler's loop: pause while a finished block waits."""
        assert executor._output_node is not None, "the loop runs after the topology is built"
        if executor._output_node[1].output_queue.has_next():
            time.sleep(PAUSE_SECONDS)

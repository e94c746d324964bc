"""Keeps Ray Data's scheduler from spinning beside a trainer.

While finished blocks wait for their consumer, the scheduler's `ray.wait` returns at once, and its
loop runs without a pause, in a thread of the process that trains: with two workers on two cores a
training step then took six times as long. A pause in every turn of the loop ends that.
"""

from __future__ import annotations

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback

PAUSE_SECONDS = 0.02


class Pause(ExecutionCallback):
    """Sleeps at every turn of the scheduler's loop, without the interpreter's lock."""

    def on_execution_step(self, executor: object) -> None:
        """Called by Ray Data after each turn."""
        time.sleep(PAUSE_SECONDS)

"""Lanes: several trials at a time in one process, which trains a step of each in turn.

Trials in lanes share what every process needs anew: torch, a context on the GPU, the mapped lake.
What decides a training's randomness is its seed and its step alone, nothing of the process, so a
trial ends bit for bit as it would alone. On a GPU each lane queues its work on a stream of its own.
Where steps are taken together (`tuning.fused`) the lanes share a stream, for they share the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import psutil
import torch

from trainer.training import DueStep

POLL_SECONDS = 0.05
MEMORY_MARGIN = 1.25
"""Free memory that a lane needs before it begins, in lanes of the process so far."""

Lane = Generator[DueStep | Literal["wait"] | None, None, None]
"""Yields before each step, which it takes unless that has been done, or "wait" where there is
nothing to do yet."""
Together = Callable[[Sequence[DueStep]], None]
"""Takes what can be taken together of steps that are due; see `tuning.fused.Fused`."""


def take_turns(lanes: Sequence[Lane], together: Together | None = None) -> None:
    """A step of every lane in turn, or of all `together`, until all have ended."""
    open_lanes = [(lane, nullcontext if together else _stream()) for lane in lanes]
    while open_lanes:
        idle = True
        due: list[DueStep] = []
        for lane, stream in tuple(open_lanes):
            with stream():
                step = next(lane, "ended")
            if step == "ended":
                open_lanes.remove((lane, stream))
            idle = idle and step == "wait"
            if isinstance(step, DueStep):
                due.append(step)
        if together is not None:
            together(due)
        if idle:
            time.sleep(POLL_SECONDS)


def has_room(lanes: int) -> bool:
    """Whether free memory would hold one lane more, as large as the `lanes` of this process are."""
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        own = torch.cuda.max_memory_reserved()
    else:
        free, own = psutil.virtual_memory().available, psutil.Process().memory_info().rss
    return free > MEMORY_MARGIN * own / lanes


def _stream() -> Callable[[], AbstractContextManager[Any]]:
    if not torch.cuda.is_available():
        return nullcontext
    own = torch.cuda.Stream()
    return lambda: torch.cuda.stream(own)

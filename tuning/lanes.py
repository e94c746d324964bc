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

from cluster.limits import free_bytes
from trainer.steps import R, Steps
from trainer.training import DueStep

POLL_SECONDS = 0.05
MEMORY_MARGIN = 1.25
"""Free memory that a lane needs before it begins, in lanes of the process so far."""

Lane = Generator[DueStep | Literal["wait"] | None, None, None]
"""Yields before each step, which it takes unless that has been done, or "wait" where there is
nothing to do yet."""
Together = Callable[[Sequence[DueStep]], Sequence[DueStep]]
"""Takes what can be taken together of steps that are due; gives those that are to wait. See
`tuning.fused.Fused`."""


def take_turns(lanes: Sequence[Lane], together: Together | None = None) -> None:
    """A step of every lane in turn, or of all `together`, until all have ended."""
    open_lanes = {lane: nullcontext if together else _stream() for lane in lanes}
    waiting: dict[Lane, DueStep] = {}
    while open_lanes:
        idle = not waiting
        due: dict[Lane, DueStep] = {}
        for lane, stream in tuple(open_lanes.items()):
            if lane in waiting:
                due[lane] = waiting[lane]
                continue
            with stream():
                step = next(lane, "ended")
            if step == "ended":
                del open_lanes[lane]
            idle = idle and step == "wait"
            if isinstance(step, DueStep):
                due[lane] = step
        if together is not None:
            held = {id(step) for step in together(list(due.values()))}
            waiting = {lane: step for lane, step in due.items() if id(step) in held}
        if idle:
            time.sleep(POLL_SECONDS)


class Company:
    """The trials that a process trains in lanes, and whether memory is left for one more."""

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        """Steps that each trial has taken here."""
        self._lane_bytes = 0.0
        """What a lane has needed at most."""
        self._empty_bytes = _kept_bytes()

    def has_room(self) -> bool:
        """Whether free memory would hold one more, which is known when all have taken a step."""
        if not self._taken:
            return True
        if not all(self._taken.values()):
            return False
        self._measure()
        return _free_bytes() > MEMORY_MARGIN * self._lane_bytes

    def joined(self, number: int, steps: Steps[R]) -> Steps[R]:
        """The same steps of trial `number`, which is of the company until they end."""
        self._measure()
        self._taken[number] = 0
        try:
            while True:
                step = next(steps)
                yield step
                self._taken[number] += 1
        except StopIteration as end:
            self._measure()
            return end.value
        finally:
            del self._taken[number]

    def _measure(self) -> None:
        if self._taken:
            own = (_most_bytes() - self._empty_bytes) / len(self._taken)
            self._lane_bytes = max(self._lane_bytes, own)


def _free_bytes() -> int:
    """Of the device, with what torch keeps of it for the next tensors."""
    if not torch.cuda.is_available():
        return free_bytes()
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _kept_bytes() -> int:
    """What this process needs before it trains anything: of the device nothing."""
    return 0 if torch.cuda.is_available() else psutil.Process().memory_info().rss


def _most_bytes() -> int:
    """What this process has needed at once since this was last asked."""
    if not torch.cuda.is_available():
        return _kept_bytes()
    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return most


def _stream() -> Callable[[], AbstractContextManager[Any]]:
    if not torch.cuda.is_available():
        return nullcontext
    own = torch.cuda.Stream()
    return lambda: torch.cuda.stream(own)

"""Work that is done step by step, so that several can take turns in one process.

Each step is given before it is taken: whoever drives several may take theirs together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import ParamSpec, TypeVar

from trainer.training import DueStep

P = ParamSpec("P")
R = TypeVar("R")

Steps = Generator[DueStep | None, None, R]
"""Yields before each step, and takes those that nobody took; returns the result."""


def to_its_end(steps: Steps[R]) -> R:
    """The result of all steps, one after another."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def whole(in_steps: Callable[P, Steps[R]]) -> Callable[P, R]:
    """The same function without a stop between the steps."""

    @functools.wraps(in_steps)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return to_its_end(in_steps(*args, **kwargs))

    return call

"""Values that change with progress: pure functions of the fraction of a stage that is done."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """From `start` to `end` while the stage's progress goes from `begin` to `finish` (fractions).

    Before and after it the value stays at its ends. `shape` is linear, or half a cosine.
    """

    start: float
    end: float
    begin: float = 0.0
    finish: float = 1.0
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.finish <= 1:
            raise ValueError(
                f"a ramp needs 0 <= begin < finish <= 1, not {self.begin} and {self.finish}"
            )

    @property
    def peak(self) -> float:
        """The larger of its ends."""
        return max(self.start, self.end)

    def scaled_to(self, peak: float) -> Ramp:
        """The same course with another peak; with its own, exactly itself."""
        if peak == self.peak:
            return self
        factor = peak / self.peak
        return replace(self, start=self.start * factor, end=self.end * factor)

    def at(self, fraction: float) -> float:
        """The value at `fraction` of the stage, in [0, 1]."""
        done = min(max((fraction - self.begin) / (self.finish - self.begin), 0.0), 1.0)
        if self.shape == "cosine":
            done = 0.5 - 0.5 * math.cos(math.pi * done)
        return self.start + (self.end - self.start) * done


Schedule = float | Ramp
"""A constant, or a ramp over a stage."""


def value_at(schedule: Schedule, fraction: float) -> float:
    """The schedule's value at `fraction` of a stage."""
    return schedule.at(fraction) if isinstance(schedule, Ramp) else float(schedule)


def ever_positive(schedule: Schedule) -> bool:
    """Whether the value is above zero anywhere in the stage."""
    if isinstance(schedule, Ramp):
        return schedule.start > 0 or schedule.end > 0
    return schedule > 0


def parse(text: str) -> Schedule:
    """A number, or `START->END`, `START->END@BEGIN:FINISH`, the latter with `,cosine` at will."""
    if "->" not in text:
        return float(text)
    body, _, shape = text.partition(",")
    values, _, span = body.partition("@")
    start, _, end = values.partition("->")
    begin, _, finish = (span or "0:1").partition(":")
    if shape not in ("", "linear", "cosine"):
        raise ValueError(f"unknown ramp shape '{shape}'; valid: linear, cosine")
    return Ramp(
        start=float(start),
        end=float(end),
        begin=float(begin),
        finish=float(finish),
        shape="cosine" if shape == "cosine" else "linear",
    )

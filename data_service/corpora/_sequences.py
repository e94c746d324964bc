"""Which frames of a sequence are taken, and with which label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_service.corpora._files import NO_PICTURE
from data_service.schema import Expression, Rejection

SEQUENCE_MISSING = "sequence missing"

Labelled = dict[int, Expression | None]
"""The label of each frame that is taken, by its number, in their order."""


def needed_frames(frames: int, neutral: bool) -> int:
    """How many a sequence must have from its onset to its peak: with the first as neutral, one more
    at least."""
    return max(frames, 1 + neutral)


def few_frames(name: str, found: int, frames: int) -> Rejection:
    """A sequence with fewer frames than it needs: its neutral start would pass for its peak."""
    if not found:
        return Rejection(name=name, reason=NO_PICTURE)
    return Rejection(name=name, reason="few frames", detail=f"{found} of {frames}")


def labelled_frames(
    files: Sequence[Path], expression: Expression, *, frames: int, neutral: bool, clips: bool
) -> list[tuple[Path, Expression | None]]:
    """The last `frames` files of a sequence with its expression; if wanted, the first as neutral,
    and with `clips` all others without a label.

    `files` run from the neutral onset to the peak; a neutral first one is never also a peak.
    """
    chosen: dict[Path, Expression | None] = dict.fromkeys(files if clips else ())
    chosen |= dict.fromkeys(files[-frames:], expression)
    if neutral:
        chosen |= dict.fromkeys(files[:1], Expression.NEUTRAL)
    return sorted(chosen.items())


def apex_frames(
    numbers: Sequence[int], expression: Expression, *, frames: int, neutral: bool, clips: bool
) -> Labelled:
    """The `frames` frames next to the middle with the expression, at most those in the middle
    third; if wanted, the first as neutral, and with `clips` all others without a label.

    `numbers` are those of the frames that there are, in order, of a sequence that runs from neutral
    over the peak back to neutral: where some are lost, the others still tell the middle. None has
    the expression where the whole middle third is lost.
    """
    span = numbers[-1] - numbers[0] + 1
    third = max(span // 3, 1)
    start = numbers[0] + (span - third) // 2
    centre = (numbers[0] + numbers[-1]) / 2
    middle = [number for number in numbers if start <= number < start + third]
    apex = sorted(middle, key=lambda number: (abs(number - centre), number))[:frames]
    labels: Labelled = dict.fromkeys(numbers if clips else ())
    if neutral and apex:
        labels[numbers[0]] = Expression.NEUTRAL
    labels |= dict.fromkeys(apex, expression)
    return dict(sorted(labels.items()))

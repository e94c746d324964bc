"""Dropout whose noise is keyed by the samples, so that it is the same on any number of workers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Noise = Callable[..., Tensor]
"""`noise(name, shape, uniform=)`, as `StepContext.noise`."""


def dropout(x: Tensor, rate: float, name: str, noise: Noise | None) -> Tensor:
    """`x` [B, ...] with a share `rate` of its numbers hidden and the others scaled up to match.

    `name` tells a turn's dropouts apart. Without noise, as in evaluation, `x` itself.
    """
    if noise is None or rate <= 0:
        return x
    chance = noise(name, tuple(x.shape), uniform=True) * 0.5 + 0.5
    return x * (chance >= rate) / (1 - rate)

"""Which samples moved the weights: a sum that every checkpoint carries along.

Each sample of a step adds one scrambled 64-bit number, made of the step, the sample's slot of the
plan and its face. The sum over a whole run, wherever it was killed and resumed and on however many
workers, equals the sum over its plan only if every step was applied exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from data_service.planning.plan import Plan

_ODD = (-7046029254386353131, -4658895280553007687, -7723592293110705685)


def entry(step: int, key_B: Tensor, row_B: Tensor) -> Tensor:
    """What the samples of one step add, modulo 2^64; int64, on the samples' device."""
    mixed_B = key_B * _ODD[0] + row_B * _ODD[1] + (step + 1) * _ODD[2] % 2**63
    for shift in (29, 32):
        mixed_B = (mixed_B ^ (mixed_B >> shift)) * _ODD[1]
    return mixed_B.sum()


def of_plan(plan: Plan, steps: Iterable[int] | None = None) -> int:
    """What a run over these steps of the plan, by default all, must have added up to."""
    total = torch.zeros((), dtype=torch.int64)
    for step in range(plan.num_steps) if steps is None else steps:
        drawn = plan.step(step)
        key_B = torch.from_numpy(drawn.key.view("int64"))
        total += entry(step, key_B, torch.from_numpy(drawn.rows))
    return int(total)

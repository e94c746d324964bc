"""Adversarial losses as masked means over faces, for critics that score faces or patches of them.

Shapes: B faces; scores are [B] or [B, ...], averaged over all but B.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainer.system import Mean


def masked_mean(value_B: Tensor, mask_B: Tensor | None = None) -> Mean:
    """The mean over the faces where `mask_B` is true (all without it), as sum and count."""
    if mask_B is None:
        return Mean(sum=value_B.sum(), count=torch.tensor(len(value_B), device=value_B.device))
    return Mean(sum=(value_B * mask_B).sum(), count=mask_B.sum())


def joined(first: Mean, second: Mean, weight: float = 0.5) -> Mean:
    """`weight` times the sum of two means over equally many faces, as one mean."""
    return Mean(sum=weight * (first.sum + second.sum), count=first.count)


def least_squares(scores: Tensor, target: float, mask_B: Tensor | None = None) -> Mean:
    """(score - target)², the LSGAN of Mao et al., ICCV 2017, for either side of the game."""
    return masked_mean((scores - target).square().reshape(len(scores), -1).mean(1), mask_B)


def logistic(scores: Tensor, target: float, mask_B: Tensor | None = None) -> Mean:
    """Cross-entropy of sigmoid(score) with the target 0 or 1; non-saturating for the generator."""
    loss = functional.binary_cross_entropy_with_logits(
        scores, torch.full_like(scores, target), reduction="none"
    )
    return masked_mean(loss.reshape(len(loss), -1).mean(1), mask_B)

"""How far two faces are in the eyes of a frozen network, as masked means over faces.

Shapes: B faces, C channels, H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


def feature_distance(
    maps: Sequence[Tensor],
    targets: Sequence[Tensor],
    betas: Sequence[float],
    mask_B: Tensor | None = None,
) -> Mean:
    """Sum over layers l of beta_l mean |map_l - target_l| (ExprGAN, identity loss)."""
    layers = zip(betas, maps, targets, strict=True)
    distance_B = torch.stack([beta * (m - t).abs().flatten(1).mean(1) for beta, m, t in layers])
    return masked_mean(distance_B.sum(0), mask_B)


def embedding_distance(
    embedding_BD: Tensor, target_BD: Tensor, mask_B: Tensor | None = None
) -> Mean:
    """1 - cosine of two unit vectors: 0 for the same subject, about 1 for strangers."""
    return masked_mean(1 - (embedding_BD * target_BD).sum(1), mask_B)

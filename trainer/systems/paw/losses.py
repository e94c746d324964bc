"""PaW's losses: attributes that are known, read as yes or no; hints.

Shapes: B images, A attributes, D features, h and w sides of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


def attribute_error(logits_BA: Tensor, attributes_BA: Tensor) -> Mean:
    """Sigmoid cross-entropy over all attributes that are known; above 0 stands for there."""
    known_BA = torch.isfinite(attributes_BA)
    target_BA = (attributes_BA > 0).to(logits_BA.dtype)
    loss_BA = functional.binary_cross_entropy_with_logits(logits_BA, target_BA, reduction="none")
    return Mean(sum=(loss_BA * known_BA).sum(), count=known_BA.sum())


def hint_error(guess_BDhw: Tensor, hint_BDhw: Tensor) -> Mean:
    """Mean squared difference of middle maps (FitNets, Romero et al., ICLR 2015)."""
    return masked_mean((guess_BDhw - hint_BDhw).square().flatten(1).mean(1))

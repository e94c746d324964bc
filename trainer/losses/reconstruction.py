"""How far an image is from another, as masked means over faces.

Shapes: B faces, C channels, H height, W width. Images come in [-1, 1] and are compared on the scale
[0, 1], on which the papers state their weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


def absolute_error(images_BCHW: Tensor, targets_BCHW: Tensor, mask_B: Tensor | None = None) -> Mean:
    """Mean |image - target| / 2 over channels and pixels."""
    return masked_mean(0.5 * (images_BCHW - targets_BCHW).abs().flatten(1).mean(1), mask_B)


def squared_error(images_BCHW: Tensor, targets_BCHW: Tensor, mask_B: Tensor | None = None) -> Mean:
    """Mean ((image - target) / 2)² over channels and pixels."""
    return masked_mean(0.25 * (images_BCHW - targets_BCHW).square().flatten(1).mean(1), mask_B)


def smooth_error(images_BCHW: Tensor, targets_BCHW: Tensor, mask_B: Tensor | None = None) -> Mean:
    """Squared error of the means of 3 x 3 pixels (ours).

    Grain and small movements, most of the absolute error of two frames, hardly count there.
    """
    apart_BCHW = functional.avg_pool2d(images_BCHW - targets_BCHW, 3, stride=1)
    return squared_error(apart_BCHW, torch.zeros_like(apart_BCHW), mask_B)


def feature_error(
    maps: Sequence[Tensor], targets: Sequence[Tensor], mask_B: Tensor | None = None
) -> Mean:
    """Mean squared difference of feature maps, summed over the maps given."""
    pairs = zip(maps, targets, strict=True)
    distance_B = torch.stack([(m - t).square().flatten(1).mean(1) for m, t in pairs]).sum(0)
    return masked_mean(distance_B, mask_B)


def total_variation(images_BCHW: Tensor) -> Mean:
    """Half the squared differences of neighbouring pixels, summed per face, over the height.

    The form of the released ExprGAN, on images in [-1, 1].
    """
    down_B = (images_BCHW[:, :, 1:] - images_BCHW[:, :, :-1]).square().flatten(1).sum(1)
    right_B = (images_BCHW[..., 1:] - images_BCHW[..., :-1]).square().flatten(1).sum(1)
    return masked_mean((down_B + right_B) / (2 * images_BCHW.shape[2]))

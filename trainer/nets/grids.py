"""Where pixels are taken from, in full precision.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def affine_grid(matrix_B23: Tensor, images_BCHW: Tensor) -> Tensor:
    """The grid of `torch.nn.functional.affine_grid`, float32 [B, H, W, 2], under autocast too.

    In bf16, places in 224 pixels are off by up to a fifth of one.
    """
    with torch.autocast(matrix_B23.device.type, enabled=False):
        return functional.affine_grid(
            matrix_B23.float(), list(images_BCHW.shape), align_corners=False
        )


def sampled(images_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
    """The images at the places of a float32 grid, bilinear, edges repeated; their own type."""
    seen_BCHW = functional.grid_sample(
        images_BCHW.float(), grid_BHW2, padding_mode="border", align_corners=False
    )
    return seen_BCHW.to(images_BCHW.dtype)

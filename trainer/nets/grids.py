"""Where pixels are taken from, in full precision.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def scaled_and_moved(across_B: Tensor, down_B: Tensor, shift_B2: Tensor) -> Tensor:
    """Matrices [B, 2, 3] that scale across and down and move by `shift_B2`, in halves of a side."""
    zero_B = torch.zeros_like(across_B)
    rows = [(across_B, zero_B, shift_B2[:, 0]), (zero_B, down_B, shift_B2[:, 1])]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def affine_grid(matrix_B23: Tensor, images_BCHW: Tensor) -> Tensor:
    """The grid of `torch.nn.functional.affine_grid`, float32 [B, H, W, 2], under autocast too.

    In bf16, places in 224 pixels are off by up to a fifth of one. As a product of matrices, for
    which `torch.func.vmap` has a rule; torch's own function has none.
    """
    height, width = images_BCHW.shape[2:]
    across_W, down_H = (_centres(side, matrix_B23) for side in (width, height))
    down_HW, across_HW = torch.meshgrid(down_H, across_W, indexing="ij")
    places_P3 = torch.stack([across_HW, down_HW, torch.ones_like(down_HW)], dim=-1).view(-1, 3)
    with torch.autocast(matrix_B23.device.type, enabled=False):
        grid_BP2 = places_P3 @ matrix_B23.float().transpose(1, 2)
    return grid_BP2.view(-1, height, width, 2)


def _centres(side: int, like: Tensor) -> Tensor:
    """Where the pixels of a side lie that goes from -1 to 1."""
    whole = torch.linspace(-1, 1, side, device=like.device).float()
    return whole * (side - 1) / side


def sampled(images_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
    """The images at the places of a float32 grid, bilinear, edges repeated; their own type."""
    seen_BCHW = functional.grid_sample(
        images_BCHW.float(), grid_BHW2, padding_mode="border", align_corners=False
    )
    return seen_BCHW.to(images_BCHW.dtype)

"""Squares cut out of images around given points, for networks that look at parts.

Shapes: B images, C channels, H height, W width, N points, S side of a part.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cut_parts(images_BCHW: Tensor, centres_BN2: Tensor, share: float, side: int) -> Tensor:
    """Squares around the centres, [B, N, C, S, S]; bilinear.

    Centres are x, y in shares of the image, `share` is a square's side, likewise. A square that
    would reach beyond the image is moved inwards.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of a part is {share}; valid: above 0, up to 1")
    batch, channels = images_BCHW.shape[:2]
    count = centres_BN2.shape[1]
    centres_BN2 = centres_BN2.clamp(share / 2, 1 - share / 2)
    step_S = (torch.arange(side, device=images_BCHW.device) + 0.5) / side - 0.5
    x_BNS, y_BNS = ((centres_BN2[..., axis, None] + share * step_S) * 2 - 1 for axis in (0, 1))
    grid_BNSS2 = torch.stack(
        [x_BNS[:, :, None, :].expand(-1, -1, side, -1), y_BNS[..., None].expand(-1, -1, -1, side)],
        dim=-1,
    )
    parts_BCMS = functional.grid_sample(
        images_BCHW,
        grid_BNSS2.reshape(batch, count * side, side, 2).to(images_BCHW.dtype),
        padding_mode="border",
        align_corners=False,
    )
    return parts_BCMS.view(batch, channels, count, side, side).transpose(1, 2)

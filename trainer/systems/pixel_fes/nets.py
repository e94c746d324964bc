"""A linear map for every pixel, channel and target class, and the sums that determine it.

Shapes: B faces, C channels, H height, W width, K classes, D = r² + 1 inputs of an output pixel: its
r x r window and a constant.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def windows(faces_BCHW: Tensor, receptive_field: int) -> Tensor:
    """The inputs of every output pixel, [B, C, D, H, W]; beyond the border they are 0."""
    batch, channels, height, width = faces_BCHW.shape
    single_NCHW = faces_BCHW.reshape(batch * channels, 1, height, width)
    unfolded = functional.unfold(single_NCHW, receptive_field, padding=receptive_field // 2)
    window_BCDHW = unfolded.view(batch, channels, receptive_field**2, height, width)
    return torch.cat([window_BCDHW, torch.ones_like(window_BCDHW[:, :, :1])], dim=2)


def normal_sums(
    inputs_BCDHW: Tensor, targets_BCHW: Tensor, class_B: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """X'X [K, C, H, W, D, D] and X'y [K, C, H, W, D] over the faces of each target class."""
    gram, cross = [], []
    for index in range(num_classes):
        x_NCDHW, y_NCHW = inputs_BCDHW[class_B == index], targets_BCHW[class_B == index]
        gram.append(torch.einsum("bcdhw,bcehw->chwde", x_NCDHW, x_NCDHW))
        cross.append(torch.einsum("bcdhw,bchw->chwd", x_NCDHW, y_NCHW))
    return {"gram": torch.stack(gram), "cross": torch.stack(cross)}


def ridge(gram_KCHWDD: Tensor, cross_KCHWD: Tensor, penalty: float) -> Tensor:
    """(X'X + penalty I)^-1 X'y for every class, channel and pixel; [K, C, H, W, D]."""
    eye_DD = torch.eye(gram_KCHWDD.shape[-1], dtype=gram_KCHWDD.dtype, device=gram_KCHWDD.device)
    factor = torch.linalg.cholesky(gram_KCHWDD + penalty * eye_DD)
    return torch.cholesky_solve(cross_KCHWD.unsqueeze(-1), factor).squeeze(-1)


def unchanged(num_classes: int, channels: int, side: int, receptive_field: int) -> Tensor:
    """The map that leaves a face as it is: only the window's centre counts; [K, C, H, W, D]."""
    weights = torch.zeros(num_classes, channels, side, side, receptive_field**2 + 1)
    weights[..., receptive_field**2 // 2] = 1.0
    return weights


def applied(weights_KCHWD: Tensor, inputs_BCDHW: Tensor, class_B: Tensor) -> Tensor:
    """The faces that the maps of their target classes give, [B, C, H, W]."""
    return torch.einsum("bcdhw,bchwd->bchw", inputs_BCDHW, weights_KCHWD[class_B])

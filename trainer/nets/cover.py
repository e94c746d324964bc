"""Faces of which a part is hidden while they are learnt from.

What is covered is seen by nobody: landmarks below it lose their confidence, as a detector's would.
Shapes: B faces, C channels, H height, W width, L landmarks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from data_service.schema import FaceBatch

Half = Literal["upper", "lower", "left", "right"]


def half_mask(half: Half, side: int, border: float, device: torch.device | str = "cpu") -> Tensor:
    """True in that half of an image, [H, W]; halves meet at `border`, a share of the side."""
    first_S = torch.arange(side, device=device) + 0.5 < border * side
    inside_S = first_S if half in ("upper", "left") else ~first_S
    across = half in ("left", "right")
    return inside_S.expand(side, side) if across else inside_S[:, None].expand(side, side)


def block_masks(place_B2: Tensor, side: int, size: float) -> Tensor:
    """A square block for each face, [B, H, W], whose side is `size` (a share of the face's).

    `place_B2` in [0, 1) says how far down and to the right it lies; it is wholly within the face.
    """
    pixel_S = torch.arange(side, device=place_B2.device) + 0.5
    start_B21 = ((side - size * side) * place_B2).unsqueeze(2)
    inside_B2S = (pixel_S >= start_B21) & (pixel_S < start_B21 + size * side)
    return inside_B2S[:, 0, :, None] & inside_B2S[:, 1, None, :]


def covered(batch: FaceBatch, mask_BHW: Tensor, tone: Tensor | float) -> FaceBatch:
    """The batch with its faces in one tone where the mask is true; landmarks there have score 0.

    `mask_BHW` may be [H, W] for all; `tone` in [-1, 1] is one number or [B].
    """
    faces_BCHW = batch.faces_BCHW
    mask_BHW = mask_BHW.expand(faces_BCHW.shape[0], *faces_BCHW.shape[2:])
    tone_B = torch.as_tensor(tone, dtype=faces_BCHW.dtype, device=faces_BCHW.device)
    hidden_BCHW = torch.where(mask_BHW.unsqueeze(1), tone_B.view(-1, 1, 1, 1), faces_BCHW)
    landmarks_BL3 = batch.landmarks_BL3
    if landmarks_BL3 is not None:
        landmarks_BL3 = _unseen(landmarks_BL3, mask_BHW)
    return replace(batch, faces_BCHW=hidden_BCHW, landmarks_BL3=landmarks_BL3)


def _unseen(landmarks_BL3: Tensor, mask_BHW: Tensor) -> Tensor:
    height, width = mask_BHW.shape[1:]
    x_BL, y_BL = landmarks_BL3[..., :2].nan_to_num(-1.0).round().long().unbind(-1)
    place_BL = y_BL.clamp(0, height - 1) * width + x_BL.clamp(0, width - 1)
    score_BL = landmarks_BL3[..., 2].masked_fill(mask_BHW.flatten(1).gather(1, place_BL), 0.0)
    return torch.cat([landmarks_BL3[..., :2], score_BL.unsqueeze(2)], dim=2)

"""Faces whose expression lies: what the generator is shown when it must believe the code (ours).

An auto-encoder that is shown the expression can copy it and ignore the code. Here mouth, or eyes
and brows, of a face are replaced by those of a donor with another expression, in the face's own
colours, and the whole is warped smoothly; the generator restores the face from that and from the
code of its class. Regions are shares of an aligned face (`data_service.align`).

Shapes: B faces, C channels, H height, W width, G side of the warp's grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import knob

Noise = Callable[..., Tensor]

MOUTH = (0.56, 0.98, 0.12, 0.88)
EYES = (0.10, 0.56, 0.08, 0.92)
_WHOLE = (0.05, 1.0, 0.05, 0.95)
_SOFT_SHARE, _WARP_SOFT_SHARE = 0.08, 0.15
_GRID = 7
_SIDEWAYS = 0.5
_GAIN_BOUNDS = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScrambleConfig:
    """How often and how far a face is scrambled; all 0 is the paper's plain auto-encoding.

    A donor is a face of another class of anybody, or of the same subject (where there is none, the
    face itself, so that only the warp is left).
    """

    mouth: float = knob(0.0, bounds=(0.0, 1.0), doc="chance of a donor's mouth (ours)")
    eyes: float = knob(0.0, bounds=(0.0, 1.0), doc="chance of a donor's eyes and brows (ours)")
    warp: float = knob(0.0, bounds=(0.0, 0.5), doc="spread of the warp, in half face sides (ours)")
    donor: Literal["other_class", "same_subject"] = knob("other_class", doc="whose features (ours)")

    @property
    def on(self) -> bool:
        """Whether faces are scrambled at all."""
        return bool(self.mouth or self.eyes or self.warp)

    @property
    def partner(self) -> str:
        """The partner rule that supplies the donors."""
        return self.donor if self.mouth or self.eyes else "none"


def scrambled(
    config: ScrambleConfig, faces_BCHW: Tensor, donors_BCHW: Tensor | None, noise: Noise
) -> Tensor:
    """The faces with a donor's features and a warp; `noise(name, shape, uniform=)` is keyed."""
    if donors_BCHW is not None:
        for name, region, chance in (("mouth", MOUTH, config.mouth), ("eyes", EYES, config.eyes)):
            draw_B1 = noise(f"scramble/{name}", (len(faces_BCHW), 1), uniform=True) * 0.5 + 0.5
            taken_B111 = (draw_B1 < chance).to(faces_BCHW.dtype).view(-1, 1, 1, 1)
            mask_11HW = soft_region(region, faces_BCHW, _SOFT_SHARE)
            given_BCHW = in_colours_of(faces_BCHW, donors_BCHW, mask_11HW)
            faces_BCHW = faces_BCHW + mask_11HW * taken_B111 * (given_BCHW - faces_BCHW)
    if config.warp:
        faces_BCHW = _warped(config.warp, faces_BCHW, noise)
    return faces_BCHW


def soft_region(
    region: tuple[float, float, float, float], like_BCHW: Tensor, soft_share: float
) -> Tensor:
    """A mask [1, 1, H, W] of top, bottom, left, right in shares, 1 inside, falling off linearly."""
    height, width = like_BCHW.shape[2:]
    top, bottom, left, right = region
    down_H, across_W = (
        (torch.arange(side, device=like_BCHW.device, dtype=like_BCHW.dtype) + 0.5) / side
        for side in (height, width)
    )
    mask_H = ((torch.minimum(down_H - top, bottom - down_H)) / soft_share).clamp(0, 1)
    mask_W = ((torch.minimum(across_W - left, right - across_W)) / soft_share).clamp(0, 1)
    return (mask_H[:, None] * mask_W[None, :])[None, None]


def in_colours_of(faces_BCHW: Tensor, donors_BCHW: Tensor, mask_11HW: Tensor) -> Tensor:
    """The donors with each channel's mean and spread below the mask those of the faces."""
    share_11HW = mask_11HW / mask_11HW.sum()

    def moments(images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_BC11 = (images_BCHW * share_11HW).sum((2, 3), keepdim=True)
        spread = ((images_BCHW - mean_BC11).square() * share_11HW).sum((2, 3), keepdim=True)
        return mean_BC11, (spread + 1e-3).sqrt()

    face_mean, face_spread = moments(faces_BCHW)
    donor_mean, donor_spread = moments(donors_BCHW)
    gain_BC11 = (face_spread / donor_spread).clamp(*_GAIN_BOUNDS)
    return ((donors_BCHW - donor_mean) * gain_BC11 + face_mean).clamp(-1, 1)


def _warped(spread: float, faces_BCHW: Tensor, noise: Noise) -> Tensor:
    num_faces, size = len(faces_BCHW), faces_BCHW.shape[2:]
    coarse_B2GG = noise("scramble/warp", (num_faces, 2, _GRID, _GRID))
    reach_B1 = noise("scramble/reach", (num_faces, 1), uniform=True) * 0.5 + 0.5
    coarse_B2GG = coarse_B2GG * (spread * reach_B1).view(-1, 1, 1, 1)
    shift_B2HW = functional.interpolate(
        coarse_B2GG, size=tuple(size), mode="bicubic", align_corners=True
    )
    shift_B2HW = shift_B2HW * soft_region(_WHOLE, faces_BCHW, _WARP_SOFT_SHARE)
    sideways_12 = shift_B2HW.new_tensor([_SIDEWAYS, 1.0]).view(1, 2, 1, 1)
    same_B23 = torch.eye(2, 3, device=faces_BCHW.device).expand(num_faces, 2, 3)
    grid = functional.affine_grid(same_B23, list(faces_BCHW.shape), align_corners=False)
    grid = grid + (shift_B2HW * sideways_12).permute(0, 2, 3, 1)
    return functional.grid_sample(faces_BCHW, grid, padding_mode="border", align_corners=False)

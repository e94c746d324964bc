"""Pairs of one sitting where a corpus has none: a face, and itself with another's expression.

Ours. The paper's pairs are frames of one sequence, alike in pose and light. Where the faces of a
subject differ in both, or a subject has one face only, the difference of expression drowns. Here
the source is made: mouth, or eyes and brows, of a face are replaced by a donor's of another class,
in the face's own colours, and the whole is bent a little; the network restores the face from that
and from its expression. Regions are shares of an aligned face (`data_service.align`).

Shapes: B faces, C channels, H height, W width, G side of the coarse grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import knob

Noise = Callable[..., Tensor]
"""`noise(name, shape, uniform=)`: keyed by the sample's slot, as `StepContext.noise`."""

_MOUTH = (0.54, 1.10, 0.06, 0.94)
_EYES = (0.08, 0.58, 0.0, 1.0)
_WHOLE = (0.05, 1.0, 0.05, 0.95)
_FEATURE_EDGE, _BEND_EDGE = 0.08, 0.15
_GRID = 7
_GAIN_BOUNDS = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScrambleConfig:
    """How often and how far a source is made to differ."""

    mouth: float = knob(0.6, bounds=(0.0, 1.0), doc="chance of a donor's mouth")
    eyes: float = knob(0.5, bounds=(0.0, 1.0), doc="chance of a donor's eyes and brows")
    bend: float = knob(0.1, bounds=(0.0, 0.5), doc="spread of the bend, in half face sides")


def scrambled(
    config: ScrambleConfig, faces_BCHW: Tensor, donors_BCHW: Tensor, noise: Noise
) -> Tensor:
    """The faces with features of the donors; both aligned and of the same shape."""
    sources_BCHW = faces_BCHW
    for name, region, chance in (("mouth", _MOUTH, config.mouth), ("eyes", _EYES, config.eyes)):
        draw_B1 = noise(name, (len(faces_BCHW), 1), uniform=True) * 0.5 + 0.5
        mask_11HW = _soft(region, faces_BCHW, _FEATURE_EDGE)
        taken_B1HW = mask_11HW * (draw_B1 < chance).to(faces_BCHW.dtype)[:, :, None, None]
        given_BCHW = _in_colours_of(faces_BCHW, donors_BCHW, mask_11HW)
        sources_BCHW = torch.lerp(sources_BCHW, given_BCHW, taken_B1HW)
    return _bent(config.bend, sources_BCHW, noise)


def _soft(region: tuple[float, float, float, float], like_BCHW: Tensor, edge: float) -> Tensor:
    """A mask [1, 1, H, W] of top, bottom, left, right in shares: 1 inside, falling off linearly."""
    top, bottom, left, right = region
    down_H, across_W = (
        (torch.arange(side, device=like_BCHW.device, dtype=like_BCHW.dtype) + 0.5) / side
        for side in like_BCHW.shape[2:]
    )
    mask_H = (torch.minimum(down_H - top, bottom - down_H) / edge).clamp(0, 1)
    mask_W = (torch.minimum(across_W - left, right - across_W) / edge).clamp(0, 1)
    return (mask_H[:, None] * mask_W[None, :])[None, None]


def _in_colours_of(faces_BCHW: Tensor, donors_BCHW: Tensor, mask_11HW: Tensor) -> Tensor:
    """The donors with each channel's mean and spread below the mask those of the faces."""
    share_11HW = mask_11HW / mask_11HW.sum()

    def moments(images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_BC11 = (images_BCHW * share_11HW).sum((2, 3), keepdim=True)
        variance = ((images_BCHW - mean_BC11).square() * share_11HW).sum((2, 3), keepdim=True)
        return mean_BC11, (variance + 1e-3).sqrt()

    face_mean, face_spread = moments(faces_BCHW)
    donor_mean, donor_spread = moments(donors_BCHW)
    gain_BC11 = (face_spread / donor_spread).clamp(*_GAIN_BOUNDS)
    return ((donors_BCHW - donor_mean) * gain_BC11 + face_mean).clamp(-1, 1)


def _bent(spread: float, faces_BCHW: Tensor, noise: Noise) -> Tensor:
    """The faces along a smooth random field, by up to `spread`, differently far."""
    num_faces = len(faces_BCHW)
    reach_B1 = noise("reach", (num_faces, 1), uniform=True) * 0.5 + 0.5
    coarse_B2GG = (
        noise("bend", (num_faces, 2, _GRID, _GRID)) * (spread * reach_B1)[:, :, None, None]
    )
    shift_B2HW = functional.interpolate(
        coarse_B2GG, size=tuple(faces_BCHW.shape[2:]), mode="bicubic", align_corners=True
    )
    return moved(faces_BCHW, shift_B2HW * _soft(_WHOLE, faces_BCHW, _BEND_EDGE))


def moved(faces_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """The faces, each pixel taken from where the flow (x, y in halves of the side) points."""
    still_B23 = torch.eye(2, 3, device=faces_BCHW.device).expand(len(faces_BCHW), 2, 3)
    grid_BHW2 = functional.affine_grid(still_B23, list(faces_BCHW.shape), align_corners=False)
    grid_BHW2 = grid_BHW2 + flow_B2HW.permute(0, 2, 3, 1)
    return functional.grid_sample(faces_BCHW, grid_BHW2, padding_mode="border", align_corners=False)

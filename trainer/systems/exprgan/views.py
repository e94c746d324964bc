"""What the image critic sees of a face: varied alike for real and made faces (ours).

A critic of few data, read through one fixed pair of eyes, is fooled by patterns that no face has.
Source: differentiable augmentation, Zhao et al., NeurIPS 2020. Shapes: B faces, C channels, H
height, W width, G side of a coarse grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import knob
from trainer.nets.grids import affine_grid, sampled, scaled_and_moved

Noise = Callable[..., Tensor]
"""`noise(name, shape, uniform=)`: keyed by the sample's slot, as `StepContext.noise`."""

_GRID = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewConfig:
    """How much a critic's view varies; all 0 is the paper's."""

    grey: bool = knob(False, doc="the critic sees brightness alone")
    mirror: bool = knob(False, doc="half of the faces are mirrored")
    shift_pixels: int = knob(0, bounds=(0, 16), doc="moved by up to so many pixels")
    light: float = knob(0.0, bounds=(0.0, 1.0), doc="spread of uneven light, in [-1, 1]")
    gain: float = knob(0.0, bounds=(0.0, 0.9), doc="contrast varies by up to this factor")
    grain: float = knob(0.0, bounds=(0.0, 1.0), doc="spread of noise on single pixels")


def num_channels(config: ViewConfig, channels: int) -> int:
    """The channels of a view."""
    return 1 if config.grey else channels


def seen(config: ViewConfig, faces_BCHW: Tensor, noise: Noise | None) -> Tensor:
    """The faces as a critic sees them; without `noise`, evenly lit and in place."""
    if config.grey:
        faces_BCHW = faces_BCHW.mean(1, keepdim=True)
    if noise is None:
        return faces_BCHW
    if config.mirror or config.shift_pixels:
        faces_BCHW = _moved(config, faces_BCHW, noise)
    num_faces, (height, width) = len(faces_BCHW), faces_BCHW.shape[2:]
    if config.light:
        coarse_B1GG = config.light * noise("view/light", (num_faces, 1, _GRID, _GRID))
        faces_BCHW = faces_BCHW + functional.interpolate(
            coarse_B1GG, size=(height, width), mode="bicubic", align_corners=True
        )
    if config.gain:
        gain_B1 = 1 + config.gain * noise("view/gain", (num_faces, 1), uniform=True)
        faces_BCHW = faces_BCHW * gain_B1.view(-1, 1, 1, 1)
    if config.grain:
        faces_BCHW = faces_BCHW + config.grain * noise("view/grain", (num_faces, 1, height, width))
    return faces_BCHW


def _moved(config: ViewConfig, faces_BCHW: Tensor, noise: Noise) -> Tensor:
    """Mirrored and moved by whole pixels, edges repeated."""
    place_B3 = noise("view/place", (len(faces_BCHW), 3), uniform=True)
    size = faces_BCHW.new_tensor([faces_BCHW.shape[3], faces_BCHW.shape[2]])
    shift_B2 = (place_B3[:, :2] * (config.shift_pixels + 0.5)).round() * 2 / size
    one_B = torch.ones_like(place_B3[:, 2])
    mirror_B = torch.where(place_B3[:, 2] < 0, -1.0, 1.0) if config.mirror else one_B
    matrix_B23 = scaled_and_moved(mirror_B, one_B, shift_B2)
    return sampled(faces_BCHW, affine_grid(matrix_B23, faces_BCHW))

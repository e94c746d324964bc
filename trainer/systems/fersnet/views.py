"""What judges an edited face sees it from a little everywhere (ours).

One fixed view is fooled by patterns of single pixels; a face that is read right from every view has
changed its expression. Source: differentiable augmentation, Zhao et al., NeurIPS 2020.
Shapes: B faces, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.nets.grids import affine_grid, sampled, scaled_and_moved

Noise = Callable[..., Tensor]
"""`noise(name, shape, uniform=)`: keyed by the sample's slot, as `StepContext.noise`."""

_SHIFT, _SCALE, _GAIN, _LIGHT, _GRAIN = 0.08, 0.08, 0.2, 0.15, 0.08


def varied(faces_BCHW: Tensor, noise: Noise) -> Tensor:
    """The faces mirrored or not, moved, scaled, lit and grained at random; gradients pass."""
    draw_B6 = noise("view", (len(faces_BCHW), 6), uniform=True)
    shrink_B = 1 + _SCALE * draw_B6[:, 0]
    mirror_B = torch.where(draw_B6[:, 1] < 0, -1.0, 1.0)
    matrix_B23 = scaled_and_moved(shrink_B * mirror_B, shrink_B, _SHIFT * draw_B6[:, 2:4])
    seen_BCHW = sampled(faces_BCHW, affine_grid(matrix_B23, faces_BCHW))
    gain_B111 = (1 + _GAIN * draw_B6[:, 4]).view(-1, 1, 1, 1)
    light_B111 = (_LIGHT * draw_B6[:, 5]).view(-1, 1, 1, 1)
    grain_BCHW = noise("grain", tuple(faces_BCHW.shape), uniform=True)
    return seen_BCHW * gain_B111 + light_B111 + _GRAIN * grain_BCHW

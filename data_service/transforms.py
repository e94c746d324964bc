"""How a face varies while one trains: cut out, mirrored, moved, lit, covered; seeded per sample.

What shrinks the data (cut out, mirror: `crops`) is done on bytes in the stream; the rest here, on
the device. All parameters are drawn from a sample's key, so a sample looks the same on any worker
and after a resume; its partners are cut out, mirrored, moved and lit like itself.

Shapes: B faces, C channels, H height, W width, S side of the crop, L landmarks.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_service import seeds
from data_service.crops import AugmentConfig, Crops

__all__ = ["AugmentConfig", "Augmentation", "Crops", "centre_crop", "to_float"]

GREY = (0.299, 0.587, 0.114)


def to_float(faces_BHWC: Tensor, *, grey: bool = False) -> Tensor:
    """Float32 B x C x H x W in [-1, 1] of uint8 faces; `grey` makes one channel of three."""
    faces_BCHW = faces_BHWC.permute(0, 3, 1, 2).float()
    if grey and faces_BCHW.shape[1] == 3:
        weights_C = torch.tensor(GREY, device=faces_BCHW.device)
        faces_BCHW = torch.einsum("bchw,c->bhw", faces_BCHW, weights_C).unsqueeze(1)
    return faces_BCHW.div_(127.5).sub_(1.0).contiguous()


def centre_crop(faces_BCHW: Tensor, side: int, *, grey: bool = False) -> Tensor:
    """The middle of uint8 faces as float32 in [-1, 1]: how a face is seen in evaluation.

    ValueError where the faces are smaller than the crop.
    """
    height, width = faces_BCHW.shape[2:]
    if min(height, width) < side:
        raise ValueError(f"faces of {height}x{width} px cannot be cut to {side} px")
    top, left = (height - side) // 2, (width - side) // 2
    cut_BCSS = faces_BCHW[:, :, top : top + side, left : left + side]
    return to_float(cut_BCSS.permute(0, 2, 3, 1), grey=grey)


class Augmentation:
    """What the device does to one batch of training faces, all of it drawn by key (uint64).

    Faces are square, float32, in [-1, 1].
    """

    def __init__(self, config: AugmentConfig, key_B: np.ndarray, device: torch.device) -> None:
        self._config, self._key_B, self._device = config, key_B, device
        self._grids: dict[int, Tensor] = {}

    def place_and_light(self, faces_BCHW: Tensor) -> Tensor:
        """Rotation, scale, contrast, brightness: to be done alike to a sample and its partners."""
        config = self._config
        if config.rotation_degrees or config.scale:
            faces_BCHW = functional.grid_sample(
                faces_BCHW,
                self._grid(faces_BCHW.shape[-1]),
                padding_mode="border",
                align_corners=False,
            )
        if config.contrast or config.brightness:
            gain_B111, offset_B111 = self._light
            mean_B111 = faces_BCHW.mean(dim=(1, 2, 3), keepdim=True)
            lit_BCHW = (faces_BCHW - mean_B111) * gain_B111 + mean_B111 + offset_B111
            faces_BCHW = lit_BCHW.clamp(-1, 1)
        return faces_BCHW

    def cover(self, faces_BCHW: Tensor) -> Tensor:
        """Covers a rectangle of some faces with one brightness, as a hand or a scarf would."""
        config, side = self._config, faces_BCHW.shape[-1]
        if not config.erase:
            return faces_BCHW
        covered_B = self._uniform("erase") < config.erase
        inside = []
        for axis in ("height", "width"):
            length_B = config.erase_size * side * (0.5 + 0.5 * self._uniform(f"erase {axis}"))
            start_B = (side - length_B) * self._uniform(f"erase {axis} start")
            place_S = np.arange(side) + 0.5
            inside.append((place_S >= start_B[:, None]) & (place_S < (start_B + length_B)[:, None]))
        mask_BHW = inside[0][:, :, None] & inside[1][:, None, :] & covered_B[:, None, None]
        shade_B = self._device_tensor(2 * self._uniform("erase shade") - 1)
        mask_B1HW = torch.from_numpy(mask_BHW).to(self._device).unsqueeze(1)
        return torch.where(mask_B1HW, shade_B.view(-1, 1, 1, 1), faces_BCHW)

    def move(self, landmarks_BL3: Tensor, side: int) -> Tensor:
        """Landmarks (x, y, confidence in pixels) follow rotation and scale."""
        to_target_B22 = self._device_tensor(np.linalg.inv(self._to_source()))
        middle = (side - 1) / 2
        points_BL2 = (landmarks_BL3[..., :2] - middle) @ to_target_B22.transpose(1, 2) + middle
        return torch.cat((points_BL2, landmarks_BL3[..., 2:]), dim=2)

    def _grid(self, side: int) -> Tensor:
        """Where each pixel is taken from, [B, S, S, 2], in [-1, 1] across the face; drawn once for
        a sample and its partners."""
        if side not in self._grids:
            place_S = (2 * torch.arange(side, device=self._device) + 1) / side - 1
            across_B2, down_B2 = self._device_tensor(self._to_source()).unbind(-1)
            by_column_B1S2 = across_B2[:, None, None] * place_S[:, None]
            by_row_BS12 = down_B2[:, None, None] * place_S[:, None, None]
            self._grids[side] = by_column_B1S2 + by_row_BS12
        return self._grids[side]

    @cached_property
    def _light(self) -> tuple[Tensor, Tensor]:
        """Gain and offset, [B, 1, 1, 1]."""
        gain_B = self._device_tensor(1 + self._spread("contrast", self._config.contrast))
        offset_B = self._device_tensor(self._spread("brightness", self._config.brightness))
        return gain_B.view(-1, 1, 1, 1), offset_B.view(-1, 1, 1, 1)

    def _to_source(self) -> np.ndarray:
        """Where a place of the new face is found in the old one, both from the centre."""
        angle_B = np.radians(self._spread("rotation", self._config.rotation_degrees))
        shrink_B = 1 / (1 + self._spread("scale", self._config.scale))
        cosine_B, sine_B = np.cos(angle_B) * shrink_B, np.sin(angle_B) * shrink_B
        return np.stack((cosine_B, -sine_B, sine_B, cosine_B), axis=1).reshape(-1, 2, 2)

    def _uniform(self, stream: str) -> np.ndarray:
        return seeds.uniforms(self._key_B, stream)

    def _spread(self, stream: str, width: float) -> np.ndarray:
        return width * (2 * self._uniform(stream) - 1)

    def _device_tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)

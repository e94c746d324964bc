"""What is done to a face between lake and network: crop and mirror in the stream, the rest on the
device; all drawn per sample from its key, so that it is the same on any worker.

B samples, C channels, H height, W width, S side of the crop, L landmarks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_service import seeds

LUMA = (0.299, 0.587, 0.114)
"""Grey of red, green and blue (ITU-R 601)."""

MIRRORED_68 = np.array(
    [16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    + [26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
"""Where each of the 68 points goes when the face is mirrored."""
MIRRORED_5 = np.array([1, 0, 2, 4, 3])


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How training faces vary. Ranges are symmetric about no change.

    `shift_pixels`: the crop's offset from the centre, as far as the lake's margin allows. `scale`:
    share by which the face grows or shrinks; `brightness`: added, of a range of 2; `contrast`: share;
    `erase_probability`: chance of a grey rectangle that hides up to `erase_share` of each side.
    """

    flip: bool = True
    shift_pixels: int = 4
    rotation_degrees: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase_probability: float = 0.0
    erase_share: float = 0.4

    @property
    def bends(self) -> bool:
        """Whether faces are resampled."""
        return self.rotation_degrees > 0 or self.scale > 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Crops:
    """Where the crop of each sample lies in the lake's square, and whether it is mirrored."""

    top_B: np.ndarray
    left_B: np.ndarray
    flip_B: np.ndarray
    side: int

    def __getitem__(self, part: slice) -> Crops:
        return Crops(
            top_B=self.top_B[part],
            left_B=self.left_B[part],
            flip_B=self.flip_B[part],
            side=self.side,
        )


def draw_crops(key_B: np.ndarray, lake_size: int, side: int, config: AugmentConfig) -> Crops:
    """The crop of each sample, drawn from its key; a partner shares the crop of its sample."""
    margin = lake_size - side
    reach = min(config.shift_pixels, margin // 2)
    base = margin // 2 - reach
    span = 2 * reach + 1 if margin else 1
    top_B = base + seeds.integers(key_B, "crop top", span)
    left_B = base + seeds.integers(key_B, "crop left", span)
    flip_B = seeds.uniforms(key_B, "flip") < (0.5 if config.flip else 0.0)
    return Crops(top_B=top_B, left_B=left_B, flip_B=flip_B, side=side)


def cut(faces_NHWC: np.ndarray, rows_B: np.ndarray, crops: Crops) -> np.ndarray:
    """The crops uint8 [B, S, S, C] of the given rows, mirrored where asked; one copy of the pixels."""
    side = crops.side
    out = np.empty((len(rows_B), side, side, faces_NHWC.shape[3]), np.uint8)
    for place, (row, top, left, flip) in enumerate(
        zip(rows_B, crops.top_B, crops.left_B, crops.flip_B, strict=True)
    ):
        face = faces_NHWC[row, top : top + side, left : left + side]
        out[place] = face[:, ::-1] if flip else face
    return out


def move_landmarks(landmarks_BL3: np.ndarray, crops: Crops) -> np.ndarray:
    """Landmarks (x, y, confidence) in the lake's pixels as they lie in the crops."""
    moved = landmarks_BL3.astype(np.float32).copy()
    moved[:, :, 0] -= crops.left_B[:, None]
    moved[:, :, 1] -= crops.top_B[:, None]
    order = {68: MIRRORED_68, 5: MIRRORED_5}[moved.shape[1]]
    mirrored = moved[:, order].copy()
    mirrored[:, :, 0] = crops.side - 1 - mirrored[:, :, 0]
    return np.where(crops.flip_B[:, None, None], mirrored, moved)


def to_float(faces_BCHW: Tensor, *, grey: bool = False) -> Tensor:
    """uint8 pixels as float32 in [-1, 1]; with `grey` as one channel."""
    faces = faces_BCHW.to(torch.float32) * (1 / 127.5) - 1
    if grey and faces.shape[1] == 3:
        luma = torch.tensor(LUMA, device=faces.device).view(1, 3, 1, 1)
        faces = (faces * luma).sum(1, keepdim=True)
    return faces


def centre_crop(faces_BCHW: Tensor, side: int, *, grey: bool = False) -> Tensor:
    """Evaluation: the central crop, float32 in [-1, 1], nothing random."""
    offset = (faces_BCHW.shape[2] - side) // 2
    return to_float(
        faces_BCHW[:, :, offset : offset + side, offset : offset + side], grey=grey
    ).contiguous()


def augment(faces_BCHW: Tensor, key_B: np.ndarray, config: AugmentConfig) -> Tensor:
    """What is done on the device, to float faces in [-1, 1]: turn, scale, light, hide."""
    if config.bends:
        faces_BCHW = _bend(faces_BCHW, key_B, config)
    if config.brightness or config.contrast:
        faces_BCHW = _relight(faces_BCHW, key_B, config)
    if config.erase_probability:
        faces_BCHW = _erase(faces_BCHW, key_B, config)
    return faces_BCHW


def _symmetric(label: str, key_B: np.ndarray, reach: float, like: Tensor) -> Tensor:
    value_B = (seeds.uniforms(key_B, label) * 2 - 1) * reach
    return torch.from_numpy(value_B.astype(np.float32)).to(like.device)


def _bend(faces_BCHW: Tensor, key_B: np.ndarray, config: AugmentConfig) -> Tensor:
    angle_B = _symmetric("rotation", key_B, math.radians(config.rotation_degrees), faces_BCHW)
    zoom_B = 1 + _symmetric("scale", key_B, config.scale, faces_BCHW)
    cos_B, sin_B = torch.cos(angle_B) * zoom_B, torch.sin(angle_B) * zoom_B
    zero_B = torch.zeros_like(cos_B)
    theta_B23 = torch.stack(
        [torch.stack([cos_B, -sin_B, zero_B], 1), torch.stack([sin_B, cos_B, zero_B], 1)], 1
    )
    grid = functional.affine_grid(theta_B23, list(faces_BCHW.shape), align_corners=False)
    return functional.grid_sample(
        faces_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _relight(faces_BCHW: Tensor, key_B: np.ndarray, config: AugmentConfig) -> Tensor:
    shape = (-1, 1, 1, 1)
    gain_B = 1 + _symmetric("contrast", key_B, config.contrast, faces_BCHW)
    light_B = _symmetric("brightness", key_B, config.brightness, faces_BCHW)
    mean = faces_BCHW.mean((1, 2, 3), keepdim=True)
    lit = (faces_BCHW - mean) * gain_B.view(shape) + mean + light_B.view(shape)
    return lit.clamp(-1, 1)


def _erase(faces_BCHW: Tensor, key_B: np.ndarray, config: AugmentConfig) -> Tensor:
    """A grey rectangle over some samples (Zhong et al., Random Erasing, 2020)."""
    side = faces_BCHW.shape[2]
    hit_B = seeds.uniforms(key_B, "erase") < config.erase_probability
    height_B = (seeds.uniforms(key_B, "erase height") * config.erase_share * side).astype(int)
    width_B = (seeds.uniforms(key_B, "erase width") * config.erase_share * side).astype(int)
    top_B = (seeds.uniforms(key_B, "erase top") * (side - height_B)).astype(int)
    left_B = (seeds.uniforms(key_B, "erase left") * (side - width_B)).astype(int)
    line = np.arange(side)
    rows_BH = (line >= top_B[:, None]) & (line < (top_B + height_B)[:, None])
    columns_BW = (line >= left_B[:, None]) & (line < (left_B + width_B)[:, None])
    hidden = (hit_B[:, None, None] & rows_BH[:, :, None] & columns_BW[:, None, :])[:, None]
    return faces_BCHW.masked_fill(torch.from_numpy(hidden).to(faces_BCHW.device), 0.0)

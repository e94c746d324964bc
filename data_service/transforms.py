"""How a face varies while one trains: cut out, mirrored, moved, lit, covered; seeded per sample.

What shrinks the data (cut out, mirror) is done on bytes in the stream; the rest on the device. All
parameters are drawn from a sample's key, so a sample looks the same on any worker and after a
resume; its partners are cut out, mirrored, moved and lit like itself.

Shapes: B faces, C channels, H height, W width, S side of the crop, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_service import seeds

GREY = (0.299, 0.587, 0.114)

FLIPPED_5 = np.array([1, 0, 2, 4, 3])
"""Where each of five points (eyes, nose, corners of the mouth) is found after mirroring."""

FLIPPED_68 = np.array(
    [
        *range(16, -1, -1),  # jaw
        *range(26, 16, -1),  # brows
        *range(27, 31),  # ridge of the nose
        *range(35, 30, -1),  # below the nose
        *(45, 44, 43, 42, 47, 46),  # right eye from the left
        *(39, 38, 37, 36, 41, 40),  # left eye from the right
        *range(54, 47, -1),  # outer upper lip
        *range(59, 54, -1),  # outer lower lip
        *range(64, 59, -1),  # inner upper lip
        *range(67, 64, -1),  # inner lower lip
    ]
)
"""The same for the 68 points of iBUG 300-W."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How much a training face varies; zeros leave it as it is.

    `crop_shift_pixels` bounds how far the crop lies from the centre (as far as the lake's margin
    allows). `flip` and `erase` are probabilities; `erase_size` is the largest side of the covered
    rectangle as a share of the face. `scale`, `brightness` and `contrast` vary a factor or an
    offset by up to that much, `rotation_degrees` the angle. Covering leaves partners alone.
    """

    crop_shift_pixels: int = 8
    flip: float = 0.5
    rotation_degrees: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase: float = 0.0
    erase_size: float = 0.4

    def __post_init__(self) -> None:
        for name in ("flip", "contrast", "erase", "erase_size"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"augment.{name} is {value}; valid: 0 to 1")
        for name in ("crop_shift_pixels", "rotation_degrees", "brightness"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"augment.{name} is {value}; valid: 0 or more")
        if not 0 <= self.scale < 1:
            raise ValueError(f"augment.scale is {self.scale}; valid: 0 to below 1")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Crops:
    """Where each face of a batch is cut out, S x S, and which are mirrored afterwards."""

    side: int
    top_B: np.ndarray
    left_B: np.ndarray
    flip_B: np.ndarray

    @classmethod
    def draw(cls, key_B: np.ndarray, face_side: int, side: int, config: AugmentConfig) -> Crops:
        """Crops drawn from the samples' keys (uint64), around the centre of the face."""
        margin = face_side - side
        shift = min(config.crop_shift_pixels, margin // 2)
        first = margin // 2 - shift
        spread = min(2 * shift, margin - first) + 1
        return cls(
            side=side,
            top_B=first + seeds.integers(key_B, "crop top", spread),
            left_B=first + seeds.integers(key_B, "crop left", spread),
            flip_B=seeds.uniforms(key_B, "flip") < config.flip,
        )

    @classmethod
    def centre(cls, batch: int, face_side: int, side: int) -> Crops:
        """The crops of evaluation: from the centre, not mirrored."""
        middle_B = np.full(batch, (face_side - side) // 2)
        return cls(side=side, top_B=middle_B, left_B=middle_B, flip_B=np.zeros(batch, bool))

    def cut(self, faces_NHWC: np.ndarray, rows_B: np.ndarray, out_BSSC: np.ndarray) -> None:
        """Cuts out the faces of those rows into `out_BSSC` (uint8)."""
        side = self.side
        where = zip(rows_B, self.top_B, self.left_B, self.flip_B, out_BSSC, strict=True)
        for row, top, left, flip, out_SSC in where:
            cut_SSC = faces_NHWC[row, top : top + side, left : left + side]
            if flip:
                cv2.flip(cut_SSC, 1, out_SSC)
            else:
                out_SSC[:] = cut_SSC

    def move(self, landmarks_BL3: np.ndarray) -> np.ndarray:
        """Landmarks (x, y, confidence; NaN where there are none) in the pixels of the crops."""
        moved_BL3 = landmarks_BL3.copy()
        moved_BL3[..., 0] -= self.left_B[:, None]
        moved_BL3[..., 1] -= self.top_B[:, None]
        mirrored_BL3 = moved_BL3[:, flipped_landmarks(moved_BL3.shape[1])]
        mirrored_BL3[..., 0] = self.side - 1 - mirrored_BL3[..., 0]
        return np.where(self.flip_B[:, None, None], mirrored_BL3, moved_BL3)


def flipped_landmarks(count: int) -> np.ndarray:
    """Where each of `count` (5 or 68) landmarks is found after mirroring."""
    known = {5: FLIPPED_5, 68: FLIPPED_68}
    if count not in known:
        raise ValueError(f"{count} landmarks cannot be mirrored; valid: 5 or 68")
    return known[count]


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

    def place_and_light(self, faces_BCHW: Tensor) -> Tensor:
        """Rotation, scale, contrast, brightness: to be done alike to a sample and its partners."""
        config = self._config
        if config.rotation_degrees or config.scale:
            affine_B23 = functional.pad(self._device_tensor(self._to_source()), (0, 1))
            shape = list(faces_BCHW.shape)
            grid_BHW2 = functional.affine_grid(affine_B23, shape, align_corners=False)
            faces_BCHW = functional.grid_sample(
                faces_BCHW, grid_BHW2, padding_mode="border", align_corners=False
            )
        if config.contrast or config.brightness:
            gain_B111 = self._device_tensor(1 + self._spread("contrast", config.contrast))
            offset_B111 = self._device_tensor(self._spread("brightness", config.brightness))
            mean_B111 = faces_BCHW.mean(dim=(1, 2, 3), keepdim=True)
            gain_B111, offset_B111 = gain_B111.view(-1, 1, 1, 1), offset_B111.view(-1, 1, 1, 1)
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

"""What is done to a training face on bytes, in the stream: cut out and mirrored; seeded by its key.

Shapes: B faces, S side of the crop, C channels, L landmarks. Free of torch, so that the processes
that build batches start fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from data_service import seeds

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
            if not 0 <= value < math.inf:
                raise ValueError(f"augment.{name} is {value}; valid: 0 or more, and finite")
        if not 0 <= self.scale < 1:
            raise ValueError(f"augment.scale is {self.scale}; valid: 0 to below 1")


class Faces(Protocol):
    """Faces by row, uint8 H x W x C: an array, or several seen as one."""

    def __getitem__(self, row: int, /) -> np.ndarray: ...


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

    def cut(self, faces: Faces, rows_B: np.ndarray, out_BSSC: np.ndarray) -> None:
        """Cuts out the faces of those rows into `out_BSSC` (uint8)."""
        side = self.side
        where = zip(rows_B, self.top_B, self.left_B, self.flip_B, out_BSSC, strict=True)
        for row, top, left, flip, out_SSC in where:
            cut_SSC = faces[row][top : top + side, left : left + side]
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

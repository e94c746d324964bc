"""Photographs as a trained system sees them, and what it makes of a face put back into its place.

Shapes: B faces, C channels, H height, W width, S side of the system's crop, L landmarks,
K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from data_service.alignment.align import Aligner, PlacedFace
from data_service.alignment.decode import UnreadableImageError, decode, grey, read_bytes
from data_service.schema import FaceBatch
from data_service.transforms import centre_crop
from trainer.job import load as load_job
from trainer.restore import LoadedSystem
from trainer.scorecard.evaluate import logits_of, with_reference

YAW = "yaw"
FEATHER = 0.12
"""Over this share of the crop's side an edit fades into the photograph."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Photograph:
    """A picture (RGB, uint8), its main face as the system sees it, in [-1, 1], and where it is.

    `matrix_23` leads from the picture's pixels to those of the face. `landmarks_1L3` are NaN where
    the system wants other landmarks than were found. `alignment` tells how the face was found.
    """

    image_HW3: np.ndarray
    face_1CSS: Tensor
    matrix_23: np.ndarray
    landmarks_1L3: Tensor | None
    alignment: str


class Viewer:
    """Shows photographs to a trained system: aligned, cut and coloured as in its lake."""

    def __init__(self, loaded: LoadedSystem) -> None:
        self._loaded = loaded
        self._face_pixels = load_job(loaded.directory).face_pixels
        self._aligner = Aligner()

    def read(self, path: Path) -> Photograph:
        """The photograph in a file; ValueError where the file is no image."""
        try:
            return self.see(decode(read_bytes(path)))
        except UnreadableImageError as error:
            raise ValueError(f"{path}: {error}") from None

    def see(self, image_HW3: np.ndarray) -> Photograph:
        """The photograph that a decoded picture is."""
        placed = self._aligner.place(image_HW3, side=self._face_pixels)
        run, info = self._loaded.run, self._loaded.info
        face_SSC = placed.image_SS3
        if info.channels == 1 and not run.data.grey:
            face_SSC = grey(face_SSC)
        face_1CHW = torch.from_numpy(np.ascontiguousarray(face_SSC)).permute(2, 0, 1)[None]
        offset = (self._face_pixels - run.data.image_size) // 2
        matrix_23 = placed.matrix_23.copy()
        matrix_23[:, 2] -= offset
        return Photograph(
            image_HW3=image_HW3,
            face_1CSS=centre_crop(face_1CHW, run.data.image_size, grey=run.data.grey),
            matrix_23=matrix_23,
            landmarks_1L3=_landmarks(placed, info.landmarks, offset),
            alignment=placed.alignment,
        )


def _landmarks(placed: PlacedFace, count: int, offset: int) -> Tensor | None:
    if not count:
        return None
    found_L3 = placed.landmarks_L3
    if found_L3 is None or len(found_L3) != count:
        return torch.full((1, count, 3), torch.nan)
    landmarks_1L3 = torch.from_numpy(found_L3).float()[None]
    landmarks_1L3[..., :2] -= offset
    return landmarks_1L3


def ask(
    loaded: LoadedSystem,
    photograph: Photograph,
    *,
    target: int = 0,
    intensity: float | None = None,
    yaw: float | None = None,
    reference: Photograph | None = None,
    reference_class: int = 0,
) -> Tensor:
    """The face [1, C, S, S] that the system makes, on the CPU, asked for class `target`, or for a
    reference's expression.

    `intensity` in [0, 1]; None means full. `yaw` is where the head is to be turned, in degrees
    (`data_service.schema.SourceFace`), by a run that `has_pose`; None means to the front.
    """
    batch = _batch(loaded, photograph, target, intensity, yaw)
    if reference is not None:
        shown_1 = torch.full_like(batch.expression_B, reference_class)
        batch = with_reference(batch, reference.face_1CSS, shown_1)
    with torch.inference_mode():
        made_1CSS = loaded.system.predict(batch.to(loaded.device)).images_BCHW
    assert made_1CSS is not None, "only systems that make faces are asked for one"
    return made_1CSS.cpu()


def read_expression(loaded: LoadedSystem, photograph: Photograph) -> Tensor:
    """The logits [1, K] of the face, on the CPU, as the scorecard takes them: with the run's
    `evaluation.flip` the mean of those of the face and of its mirror image."""
    batch = _batch(loaded, photograph).to(loaded.device)
    with torch.inference_mode():
        return logits_of(loaded.system, batch, flip=loaded.run.evaluation.flip).cpu()


def _batch(
    loaded: LoadedSystem,
    photograph: Photograph,
    target: int = 0,
    intensity: float | None = None,
    yaw: float | None = None,
) -> FaceBatch:
    one = torch.zeros(1, dtype=torch.int64)
    return FaceBatch(
        faces_BCHW=photograph.face_1CSS,
        expression_B=one,
        target_expression_B=torch.full_like(one, target),
        subject_B=torch.full_like(one, -1),
        row_B=one,
        key_B=one,
        synthetic_B=torch.zeros(1, dtype=torch.bool),
        target_intensity_B=None if intensity is None else torch.tensor([intensity]),
        landmarks_BL3=photograph.landmarks_1L3,
        target_attributes_BA=None if yaw is None else _turned(loaded, yaw),
    )


def has_pose(loaded: LoadedSystem) -> bool:
    """Whether the run was trained to turn heads as well as to change expressions."""
    return YAW in loaded.info.attributes


def _turned(loaded: LoadedSystem, yaw: float) -> Tensor:
    """Target attributes [1, A] that tell the yaw alone."""
    names = loaded.info.attributes
    return torch.tensor([[yaw if name == YAW else torch.nan for name in names]])


def pasted(photograph: Photograph, made_1CSS: Tensor) -> np.ndarray:
    """The photograph, uint8, with the face that the system made in the place of its own.

    What the system changed is added to the picture, in the picture's own resolution, and fades out
    at the crop's border: a system that changes nothing leaves every pixel as it is, and detail
    finer than what the system sees stays.
    """
    change_SSC = (made_1CSS - photograph.face_1CSS)[0].permute(1, 2, 0).float().cpu().numpy()
    side = change_SSC.shape[0]
    change_SS3 = np.broadcast_to(change_SSC * 127.5, (side, side, 3)) * _fade(side)[..., None]
    top, bottom, left, right = _box(photograph, side)
    to_crop_23 = photograph.matrix_23.copy()
    to_crop_23[:, 2] += to_crop_23[:, :2] @ (left, top)
    change_HW3 = cv2.warpAffine(
        np.ascontiguousarray(change_SS3, np.float32),
        to_crop_23,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    image_HW3 = photograph.image_HW3.copy()
    place_HW3 = image_HW3[top:bottom, left:right]
    place_HW3[:] = np.clip(np.round(place_HW3 + change_HW3), 0, 255).astype(np.uint8)
    return image_HW3


def _box(photograph: Photograph, side: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the crop in the picture."""
    corners_42 = np.array([(0, 0), (side, 0), (0, side), (side, side)], np.float64)
    back_23 = cv2.invertAffineTransform(photograph.matrix_23)
    found_42 = corners_42 @ back_23[:, :2].T + back_23[:, 2]
    height, width = photograph.image_HW3.shape[:2]
    left, top = np.floor(found_42.min(axis=0)).astype(int)
    right, bottom = np.ceil(found_42.max(axis=0)).astype(int) + 1
    return max(top, 0), min(bottom, height), max(left, 0), min(right, width)


def _fade(side: int) -> np.ndarray:
    """1 inside, falling smoothly to 0 at the border, (S, S)."""
    away_S = np.minimum(np.arange(side), np.arange(side)[::-1])
    rise_S = np.clip(away_S / (FEATHER * side), 0, 1)
    rise_S = rise_S * rise_S * (3 - 2 * rise_S)
    return rise_S[:, None] * rise_S

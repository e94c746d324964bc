"""Places a face: five points, a similarity transform, a square crop in one framing for all corpora.

The framing is InsightFace's for 128 px crops, kept relative to the crop's side so that every size
shows the same part of the face; unlike the 112 px framing of face recognition it keeps the chin,
which an expression needs.

Shapes: N points, L landmarks, H height, W width, S side of the crop. Points are x, y in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_service.alignment.detect import Detection, FaceDetector

TEMPLATE_52 = np.array(
    [
        (0.361677, 0.403877),
        (0.636967, 0.402355),
        (0.500197, 0.560442),
        (0.387104, 0.721605),
        (0.615077, 0.720345),
    ]
)
"""Where left eye, right eye, nose tip and mouth corners come to lie, in shares of the side."""

PADDING_SHARE = 0.2
WEAK_THRESHOLDS = (0.5, 0.4, 0.3)
MAX_WEAK_RESIDUAL = 0.06
BOX_SHARE = 1.3
"""What is shown of a face that nobody aligns: so many times its box, with hair, hat and chin."""
DOUBT_WEIGHT = 5.0
"""What the detector's doubt of a face weighs against points that stand wrong."""
MAX_SEARCHED_PIXELS = 2400
"""Faces are looked for in a picture of at most this side: more would cost memory and find no
face that the picture is of."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedFace:
    """An aligned face: uint8 crop, landmarks in the crop's pixels with confidence, and how it was
    placed (one of `schema.ALIGNMENTS`), with the detector's face probability (given points: 1).
    `matrix_23` leads from the original image's pixels to the crop's.
    """

    image_SS3: np.ndarray
    landmarks_L3: np.ndarray | None
    alignment: str
    confidence: float
    matrix_23: np.ndarray


def five_points(landmarks_L3: np.ndarray) -> np.ndarray:
    """Left eye, right eye, nose tip and mouth corners of 5 or 68 landmarks (iBUG order), 5 x 2."""
    points_L2 = np.asarray(landmarks_L3, dtype=np.float64)[:, :2]
    if len(points_L2) == 5:
        return points_L2
    if len(points_L2) != 68:
        raise ValueError(f"{len(points_L2)} landmarks cannot place a face; valid: 5 or 68")
    left_eye, right_eye = points_L2[36:42].mean(axis=0), points_L2[42:48].mean(axis=0)
    return np.stack([left_eye, right_eye, points_L2[30], points_L2[48], points_L2[54]])


def believable(landmarks_L3: np.ndarray, image_HW3: np.ndarray) -> bool:
    """Whether 5 or 68 landmarks can be those of a face in this picture.

    A face may reach beyond the border; of landmarks that belong to another picture, or to another
    copy of it, most of the five points lie outside.
    """
    if len(landmarks_L3) not in (5, 68) or not np.isfinite(landmarks_L3[:, :2]).all():
        return False
    points_52 = five_points(landmarks_L3)
    inside_52 = (points_52 >= 0) & (points_52 < image_HW3.shape[1::-1])
    apart = np.linalg.norm(points_52[1] - points_52[0])
    return bool(inside_52.all(axis=1).sum() > len(points_52) / 2 and apart >= 1)


def similarity(source_N2: np.ndarray, target_N2: np.ndarray) -> np.ndarray:
    """The 2 x 3 matrix of turn, one scale and shift that brings source closest to target.

    Least squares, without reflection. Source: Umeyama, IEEE PAMI 13(4), 1991, eq. 40-43.
    """
    source_mean_2, target_mean_2 = source_N2.mean(axis=0), target_N2.mean(axis=0)
    source_N2, target_N2 = source_N2 - source_mean_2, target_N2 - target_mean_2
    left, values, right = np.linalg.svd(target_N2.T @ source_N2)
    sign_2 = np.array([1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    scale = (values * sign_2).sum() / max(np.square(source_N2).sum(), 1e-12)
    turn_22 = scale * (left * sign_2) @ right
    return np.column_stack([turn_22, target_mean_2 - turn_22 @ source_mean_2])


def moved(points_N2: np.ndarray, matrix_23: np.ndarray) -> np.ndarray:
    """Points through a 2 x 3 matrix."""
    return points_N2 @ matrix_23[:, :2].T + matrix_23[:, 2]


def warp(image_HW3: np.ndarray, matrix_23: np.ndarray, side: int) -> np.ndarray:
    """The S x S crop whose pixel `moved(p, matrix)` shows the image at p.

    Bilinear, edges repeated. An image that shrinks to less than half is first averaged over whole
    blocks of pixels, without which fine texture would alias.
    """
    block = int(1 / max(np.sqrt(abs(np.linalg.det(matrix_23[:, :2]))), 1e-6))
    block = min(block, *image_HW3.shape[:2])
    if block >= 2:
        image_HW3 = _averaged(image_HW3, block)
        # pixel centres: p = block * q + (block - 1) / 2
        grow_33 = np.array([[block, 0, (block - 1) / 2], [0, block, (block - 1) / 2], [0, 0, 1.0]])
        matrix_23 = matrix_23 @ grow_33
    return cv2.warpAffine(
        image_HW3, matrix_23, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _averaged(image_HW3: np.ndarray, block: int) -> np.ndarray:
    height, width = image_HW3.shape[:2]
    bottom, right = -height % block, -width % block
    whole = np.pad(image_HW3, ((0, bottom), (0, right), (0, 0)), mode="edge")
    size = (whole.shape[1] // block, whole.shape[0] // block)
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA)


VIEWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "whole": lambda image_HW3: image_HW3,
    "clockwise": lambda image_HW3: np.rot90(image_HW3, -1),
    "anticlockwise": lambda image_HW3: np.rot90(image_HW3),
    "left": lambda image_HW3: image_HW3[:, : image_HW3.shape[1] // 2],
    "right": lambda image_HW3: image_HW3[:, image_HW3.shape[1] // 2 :],
}
"""Turns and halves of a picture, for cameras that lay on their side or filmed over a mirror."""


class Aligner:
    """Places faces, by given landmarks or by its own detector; load once per process.

    Own detection goes from strict to lax: MTCNN as published on faces from 40 px; again on the
    image mirrored out by a fifth on every side, from 20 px (faces that touch the border); with
    lowered thresholds, where only points that form a face are believed (`fallback`); a centre crop.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._detector = FaceDetector(threads=threads)

    def place(
        self, image_HW3: np.ndarray, *, side: int, landmarks_L3: np.ndarray | None = None
    ) -> PlacedFace:
        """The aligned `side` x `side` crop of the image's main face.

        Given landmarks that cannot be of this image (`believable`) are left aside.
        """
        if landmarks_L3 is not None and believable(landmarks_L3, image_HW3):
            landmarks_L3 = np.asarray(landmarks_L3, dtype=np.float64)
            return placed_by(image_HW3, landmarks_L3, side, alignment="corpus", confidence=1.0)
        alignment, found = self.find(image_HW3)
        if found is None:
            return centre_crop(image_HW3, side)
        confidence_51 = np.full((5, 1), found.probability)
        landmarks_L3 = np.concatenate([found.points_52, confidence_51], axis=1)
        return placed_by(
            image_HW3, landmarks_L3, side, alignment=alignment, confidence=found.probability
        )

    def upright(self, image_HW3: np.ndarray, views: Sequence[str]) -> np.ndarray:
        """Of these VIEWS of a picture the one that shows the most upright frontal face; the first
        where the detector finds none in any.

        Of faces on their side or upside down it is less sure, of profiles the points stand
        otherwise. Of 102 portraits, each in three turns, all were set upright, of 80 photographs
        all 74 in which it finds a face.
        """
        shown = [np.ascontiguousarray(VIEWS[view](image_HW3)) for view in views]
        doubts = []
        for view_HW3 in shown:
            found = self._detector.detect(view_HW3, min_face_pixels=40)
            best = main_face(found, view_HW3) if found else None
            doubt = np.inf
            if best is not None:
                doubt = off_upright(best.points_52) + DOUBT_WEIGHT * (1 - best.probability)
            doubts.append(doubt)
        return shown[int(np.argmin(doubts))]

    def find(self, image_HW3: np.ndarray) -> tuple[str, Detection | None]:
        """The image's main face and how it was found; ("centre", None) where there is none."""
        block = -(-max(image_HW3.shape[:2]) // MAX_SEARCHED_PIXELS)
        if block == 1:
            return self._find(image_HW3)
        alignment, found = self._find(_averaged(image_HW3, block))
        return alignment, found and _grown(found, block)

    def _find(self, image_HW3: np.ndarray) -> tuple[str, Detection | None]:
        if found := self._detector.detect(image_HW3, min_face_pixels=40):
            return "detector", main_face(found, image_HW3)
        padding = int(np.ceil(PADDING_SHARE * max(image_HW3.shape[:2])))
        padded = np.pad(image_HW3, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        if found := self._detector.detect(padded, min_face_pixels=20):
            return "detector", _unpadded(main_face(found, padded), padding)
        weak = self._detector.detect(padded, min_face_pixels=20, thresholds=WEAK_THRESHOLDS)
        if weak := [one for one in weak if residual(one.points_52) <= MAX_WEAK_RESIDUAL]:
            return "fallback", _unpadded(main_face(weak, padded), padding)
        return "centre", None


def main_face(found: list[Detection], image_HW3: np.ndarray) -> Detection:
    """Of several faces the one the picture is of: large and near the centre."""
    centre_2 = np.array(image_HW3.shape[1::-1]) / 2

    def weight(one: Detection) -> float:
        away = np.linalg.norm((one.box_4[:2] + one.box_4[2:]) / 2 - centre_2)
        area = float(np.prod(one.box_4[2:] - one.box_4[:2]))
        return area * max(1 - float(away / np.linalg.norm(centre_2)), 0.0)

    return max(found, key=weight)


def residual(points_52: np.ndarray) -> float:
    """How far five points are from the template's shape: RMS in shares of the crop's side."""
    rest_52 = moved(points_52, similarity(points_52, TEMPLATE_52)) - TEMPLATE_52
    return float(np.sqrt(np.square(rest_52).sum(axis=1).mean()))


def off_upright(points_52: np.ndarray) -> float:
    """How far five points are from the template's, moved and scaled but not turned: RMS in shares
    of the crop's side. Small for a face that is upright and seen from the front."""
    points_52 = points_52 - points_52.mean(axis=0)
    template_52 = TEMPLATE_52 - TEMPLATE_52.mean(axis=0)
    scale = (points_52 * template_52).sum() / max(np.square(points_52).sum(), 1e-12)
    rest_52 = max(scale, 0.0) * points_52 - template_52
    return float(np.sqrt(np.square(rest_52).sum(axis=1).mean()))


def placed_by(
    image_HW3: np.ndarray,
    landmarks_L3: np.ndarray,
    side: int,
    *,
    alignment: str,
    confidence: float,
) -> PlacedFace:
    """The face warped so that its five points meet the template; its landmarks go with it."""
    matrix_23 = similarity(five_points(landmarks_L3), TEMPLATE_52 * side)
    points_L2 = moved(landmarks_L3[:, :2], matrix_23)
    return PlacedFace(
        image_SS3=warp(image_HW3, matrix_23, side),
        landmarks_L3=np.concatenate([points_L2, landmarks_L3[:, 2:]], axis=1),
        alignment=alignment,
        confidence=confidence,
        matrix_23=matrix_23,
    )


def centre_crop(image_HW3: np.ndarray, side: int) -> PlacedFace:
    """The largest centred square, for want of any point."""
    matrix_23 = _centred(image_HW3, side)
    return PlacedFace(
        image_SS3=warp(image_HW3, matrix_23, side),
        landmarks_L3=None,
        alignment="centre",
        confidence=0.0,
        matrix_23=matrix_23,
    )


def as_delivered(
    image_HW3: np.ndarray,
    *,
    side: int,
    landmarks_L3: np.ndarray | None = None,
    box_4: Sequence[float] | None = None,
) -> PlacedFace:
    """A picture that nobody is to align: its largest centred square, brought to size.

    Of a picture that shows more than the face, the square around `box_4` (left, top, width and
    height in pixels), BOX_SHARE times as large; a centre crop where the box does not touch the
    picture. Landmarks that cannot be of this image (`believable`) are left out.
    """
    matrix_23, alignment = _centred(image_HW3, side), "none"
    if box_4 is not None:
        if not _touches(box_4, image_HW3):
            return centre_crop(image_HW3, side)
        left, top, width, height = box_4
        middle_2 = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
        matrix_23, alignment = _square(middle_2, BOX_SHARE * max(width, height), side), "box"
    if landmarks_L3 is not None and not believable(landmarks_L3, image_HW3):
        landmarks_L3 = None
    if landmarks_L3 is not None:
        points_L2 = moved(landmarks_L3[:, :2], matrix_23)
        landmarks_L3 = np.concatenate([points_L2, landmarks_L3[:, 2:]], axis=1)
    if image_HW3.shape[:2] != (side, side) or alignment == "box":
        image_HW3 = warp(image_HW3, matrix_23, side)
    return PlacedFace(
        image_SS3=image_HW3,
        landmarks_L3=landmarks_L3,
        alignment=alignment,
        confidence=1.0,
        matrix_23=matrix_23,
    )


def _centred(image_HW3: np.ndarray, side: int) -> np.ndarray:
    """The matrix that brings the largest centred square to S x S, edge on edge."""
    height, width = image_HW3.shape[:2]
    return _square((np.array([width, height]) - 1) / 2, min(height, width), side)


def _square(middle_2: np.ndarray, edge: float, side: int) -> np.ndarray:
    """The matrix that brings a square with that middle to S x S, edge on edge."""
    scale = side / edge
    # of pixel centres: q = (p - middle of the square) scale + middle of the crop
    shift_2 = (side - 1) / 2 - scale * middle_2
    return np.array([[scale, 0, shift_2[0]], [0, scale, shift_2[1]]])


def _touches(box_4: Sequence[float], image_HW3: np.ndarray) -> bool:
    (left, top, width, height), (rows, columns) = box_4, image_HW3.shape[:2]
    across = left < columns and left + width > 0
    return min(width, height) >= 1 and across and top < rows and top + height > 0


def _unpadded(found: Detection, padding: int) -> Detection:
    return Detection(
        box_4=found.box_4 - padding,
        probability=found.probability,
        points_52=found.points_52 - padding,
    )


def _grown(found: Detection, block: int) -> Detection:
    """A detection in the picture of which every pixel is the mean of block x block others."""
    return Detection(
        box_4=found.box_4 * block,
        probability=found.probability,
        points_52=found.points_52 * block + (block - 1) / 2,
    )

"""Whether two faces are pictures of the same moment: one is brought onto the other, pixel by pixel.

The affine map between two small grey pictures is refined by maximising their correlation, which
gain and offset do not change (Evangelidis and Psarakis, "Parametric image alignment using enhanced
correlation coefficient maximization", IEEE PAMI 30(10), 2008). What they then have in common is
judged on their finer structure alone: the coarse one is alike in all faces.

Shapes: S side of a picture. Maps are 3 x 3, from pixels x, y of one picture to another's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data_service.audit.candidates import VARIANTS
from data_service.audit.pictures import FACE_PIXELS
from data_service.schema import THUMBNAIL_PIXELS

COARSE_SIGMA = 2.5
"""What a Gaussian of so many pixels leaves of a face is coarse."""
MIN_OVERLAP = 0.6
"""The share that both must show of what the one shows that shows less, its margin counted in."""
MIN_PIXELS = 250
MIN_AREA, MAX_AREA = 0.4, 2.5
"""How much larger one face may be than the other, in area."""
_MIN_DETAIL = 0.7
_MARGIN = np.ones((5, 5), np.uint8)
_SMOOTHING_PIXELS = 3
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)
_INWARD = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Face:
    """A small face, with the whole small picture it was cut from, where that is known.

    `from_source_33` leads from the whole picture's pixels to the face's.
    """

    face_SS: np.ndarray
    source_SS: np.ndarray | None
    from_source_33: np.ndarray

    def shown(self) -> np.ndarray:
        """Which pixels (S x S, 0 or 255) show the picture, and not its repeated edge."""
        side = len(self.face_SS)
        if self.source_SS is None:
            return np.full((side, side), 255, np.uint8)
        columns, rows = np.meshgrid(np.arange(side), np.arange(side))
        points_3P = np.stack([columns.ravel(), rows.ravel(), np.ones(side * side)])
        x_P, y_P, _ = np.linalg.inv(self.from_source_33) @ points_3P
        edge = len(self.source_SS) - 0.5
        inside_P = (x_P > -0.5) & (y_P > -0.5) & (x_P < edge) & (y_P < edge)
        return (inside_P.reshape(side, side) * 255).astype(np.uint8)


def from_source(matrix_6: np.ndarray, height: int, width: int, side: int) -> np.ndarray:
    """`Face.from_source_33` of a lake's row: crop matrix and size of the picture, side of faces."""
    crop_33 = np.vstack([np.reshape(matrix_6, (2, 3)), (0, 0, 1)])
    small_33 = _scaling(width, height, THUMBNAIL_PIXELS)
    return _scaling(side, side, FACE_PIXELS) @ crop_33 @ np.linalg.inv(small_33)


def likeness(one: Face, other: Face, variant: int, *, by_source: bool) -> float:
    """How much of their fine structure two faces share: correlation, 1 for a copy.

    The search starts where `one` resembles that variant of `other`: the faces, or, `by_source`, the
    whole pictures, which lead from face to face. 0 where no map is found under which both show
    enough of the same.
    """
    start_33 = variant_map(variant, THUMBNAIL_PIXELS if by_source else FACE_PIXELS)
    if by_source:
        assert one.source_SS is not None and other.source_SS is not None
        whole_SS = np.full_like(other.source_SS, 255)
        start_33 = _registered(one.source_SS, other.source_SS, start_33, whole_SS)
        start_33 = other.from_source_33 @ start_33 @ np.linalg.inv(one.from_source_33)
    shown_SS = other.shown()
    map_33 = _registered(one.face_SS, other.face_SS, start_33, shown_SS)
    if not MIN_AREA < abs(np.linalg.det(map_33[:2, :2])) < MAX_AREA:
        return 0.0
    seen_SS = one.shown()
    both_SS = cv2.min(seen_SS, _warped(shown_SS, map_33, constant=True)) == 255
    both_SS = cv2.erode(both_SS.astype(np.uint8), _MARGIN, borderValue=0).astype(bool)
    smaller = min(np.count_nonzero(seen_SS), np.count_nonzero(shown_SS))
    if both_SS.sum() < max(MIN_OVERLAP * smaller, MIN_PIXELS):
        return 0.0
    return _correlation(_fine(one.face_SS)[both_SS], _fine(_warped(other.face_SS, map_33))[both_SS])


def variant_map(variant: int, side: int) -> np.ndarray:
    """From the pixels of a variant of a picture to those of the picture itself."""
    mirrored, share, down, right = VARIANTS[variant]
    edge = (1 - share) * side
    window_33 = np.array(
        [
            [share, 0, right * edge + (share - 1) / 2],
            [0, share, down * edge + (share - 1) / 2],
            [0, 0, 1.0],
        ]
    )
    mirror_33 = np.array([[-1.0, 0, side - 1], [0, 1, 0], [0, 0, 1]])
    return window_33 @ mirror_33 if mirrored else window_33


def _scaling(width: int, height: int, side: int) -> np.ndarray:
    """From pixel centres of a picture to those of the same picture brought to side x side."""
    x, y = side / width, side / height
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])


def _registered(
    one_SS: np.ndarray, other_SS: np.ndarray, start_33: np.ndarray, shown_SS: np.ndarray
) -> np.ndarray:
    """The map from `one` to `other` under which they correlate best, near the start."""
    map_23 = start_33[:2].astype(np.float32)
    try:
        _, map_23 = cv2.findTransformECC(
            one_SS, other_SS, map_23, cv2.MOTION_AFFINE, _STOP, shown_SS, _SMOOTHING_PIXELS
        )
    except cv2.error:  # it does not converge: pictures of different things
        return start_33
    return np.vstack([map_23, (0, 0, 1)])


def _warped(picture_SS: np.ndarray, map_33: np.ndarray, *, constant: bool = False) -> np.ndarray:
    """The picture as seen from where the map comes; outside of it black, or its edge repeated."""
    border = cv2.BORDER_CONSTANT if constant else cv2.BORDER_REPLICATE
    return cv2.warpAffine(
        picture_SS, map_33[:2], picture_SS.shape[::-1], flags=_INWARD, borderMode=border
    )


def _fine(picture_SS: np.ndarray) -> np.ndarray:
    picture_SS = picture_SS.astype(np.float32)
    return picture_SS - cv2.GaussianBlur(picture_SS, (0, 0), COARSE_SIGMA)


def _correlation(one_P: np.ndarray, other_P: np.ndarray) -> float:
    one_P, other_P = one_P - one_P.mean(), other_P - other_P.mean()
    lengths = [float(np.linalg.norm(values)) for values in (one_P, other_P)]
    if min(lengths) < _MIN_DETAIL * np.sqrt(len(one_P)):
        return 0.0
    return float(one_P @ other_P) / (lengths[0] * lengths[1])

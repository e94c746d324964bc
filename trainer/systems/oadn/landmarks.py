"""From 68 or five landmarks to the 24 points of the attention branch.

Source: the selection of PG-CNN and gACNN (Li et al., 2018), which OADN takes over; the numbers here
are 0-based. Shapes: B faces, L landmarks, P = 24 points; a point is x, y in pixels and a score.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

DIRECT = (18, 21, 22, 25, 38, 36, 43, 45, 27, 29, 48, 50, 52, 54, 58, 56)
"""Brows, eyes, nose and mouth, taken as they are."""

MIDPOINTS = ((19, 37), (24, 44), (40, 41), (46, 47), (17, 58), (26, 56))
"""Between brow and eye, below the eyes, on the cheeks."""

BESIDE_MOUTH = ((48, (-16.0, -16.0)), (54, (16.0, -16.0)))
"""Corners of the mouth and how far their points lie from them in an image of 256 px."""

LIFTS = {1: 10.0, 2: 10.0, 0: 2.0, 3: 2.0}
"""How many pixels of 256 the direct brow points are lifted."""

_FRAME = 256.0

FROM_FIVE = (
    (0.27, 0.29), (0.44, 0.28), (0.56, 0.28), (0.73, 0.29),
    (0.36, 0.40), (0.30, 0.41), (0.64, 0.40), (0.70, 0.41),
    (0.50, 0.42), (0.50, 0.53),
    (0.39, 0.72), (0.46, 0.69), (0.54, 0.69), (0.61, 0.72), (0.46, 0.77), (0.54, 0.77),
    (0.36, 0.34), (0.64, 0.34), (0.36, 0.45), (0.64, 0.45), (0.32, 0.53), (0.68, 0.53),
    (0.33, 0.66), (0.67, 0.66),
)  # fmt: skip
"""The 24 points of a mean face in the framing of aligned faces, in shares of the side."""

FIVE = ((0.361677, 0.403877), (0.636967, 0.402355), (0.500197, 0.560442), (0.387104, 0.721605),
        (0.615077, 0.720345))  # fmt: skip
"""Eyes, nose tip and mouth corners of the same mean face."""


def _with_one(points: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Points [N, 2] with a column of ones, on which an affine map is a matrix."""
    return np.pad(np.array(points), ((0, 0), (0, 1)), constant_values=1.0)


_SHARES_P5: list[list[float]] = (_with_one(FROM_FIVE) @ np.linalg.pinv(_with_one(FIVE))).tolist()
"""How much of each of five points goes into each of the 24. A constant, for ONNX has no pinv."""

_APART_P5 = np.linalg.norm(np.array(FROM_FIVE)[:, None] - np.array(FIVE), axis=2)
_NEAREST_2P: list[list[int]] = _APART_P5.argsort(axis=1, kind="stable")[:, :2].T.tolist()
"""Which two of the five points lie nearest to each of the 24 on the mean face."""


def points_24(landmarks_BL3: Tensor, side: int) -> Tensor:
    """The 24 points [B, P, 3] of 68 landmarks, or their substitute of five; ValueError otherwise.

    A derived point has the least score of its sources. A point that is not known, or lies outside
    of the image, has score 0.
    """
    count = landmarks_BL3.shape[1]
    if count == 68:
        points_BP3 = _of_68(landmarks_BL3, side)
    elif count == 5:
        points_BP3 = _of_five(landmarks_BL3)
    else:
        raise ValueError(f"oadn: {count} landmarks were given; valid: 68, or 5 as a substitute")
    known_BP = points_BP3.isfinite().all(2)
    points_BP3 = points_BP3.nan_to_num(0.0, 0.0, 0.0)
    inside_BP = ((points_BP3[..., :2] >= 0) & (points_BP3[..., :2] <= side - 1)).all(2)
    score_BP = torch.where(known_BP & inside_BP, points_BP3[..., 2], 0.0)
    return torch.cat([points_BP3[..., :2], score_BP.unsqueeze(2)], dim=2)


def _of_68(landmarks_BL3: Tensor, side: int) -> Tensor:
    unit = side / _FRAME
    direct_BN3 = landmarks_BL3[:, DIRECT].clone()
    for place, lift in LIFTS.items():
        direct_BN3[:, place, 1] -= lift * unit
    firsts, seconds = zip(*MIDPOINTS, strict=True)
    middle_BN3 = _between(landmarks_BL3[:, firsts], landmarks_BL3[:, seconds])
    corners = landmarks_BL3[:, [corner for corner, _ in BESIDE_MOUTH]]
    away_N2 = landmarks_BL3.new_tensor([away for _, away in BESIDE_MOUTH]) * unit
    beside_BN3 = torch.cat([corners[..., :2] + away_N2, corners[..., 2:]], dim=2)
    return torch.cat([direct_BN3, middle_BN3, beside_BN3], dim=1)


def _between(first_BN3: Tensor, second_BN3: Tensor) -> Tensor:
    points_BN2 = (first_BN3[..., :2] + second_BN3[..., :2]) / 2
    scores_BN = torch.minimum(first_BN3[..., 2], second_BN3[..., 2])
    return torch.cat([points_BN2, scores_BN.unsqueeze(2)], dim=2)


def _of_five(landmarks_B53: Tensor) -> Tensor:
    """A mean face's 24 points, moved by the affine map that brings its five points closest.

    Each takes the least score of the two of the five points that lie next to it.
    """
    shares_P5 = landmarks_B53.new_tensor(_SHARES_P5)
    points_BP2 = (shares_P5.unsqueeze(2) * landmarks_B53[:, None, :, :2]).sum(2)
    scores_B5, (first_P, second_P) = landmarks_B53[..., 2], _NEAREST_2P
    scores_BP = torch.minimum(scores_B5[:, first_P], scores_B5[:, second_P])
    return torch.cat([points_BP2, scores_BP.unsqueeze(2)], dim=2)

"""Drawn heads anywhere in a picture: what a photograph shows before anybody aligned it.

B pictures, H height, W width. A scene belongs to a sitting: its frames share place, size and turn.
"""

from __future__ import annotations

import numpy as np

from data_service.alignment.align import warp
from data_service.corpora._drawn_people import Chance

SCALE = (0.42, 0.8)
"""Least and greatest size of a head, as a share of that in an aligned picture."""

TURN = 0.35
"""Most by which a head is turned in the picture, in radians."""

_MIDDLE, _EDGE = 0.52, 0.3


def scene_matrices(sitting_B: np.ndarray, size: int) -> np.ndarray:
    """From aligned pictures to scenes, [B, 2, 3], keyed by the sitting (uint64).

    The middle of the head stays within the picture by its own radius.
    """
    chance = Chance(sitting_B)
    scale_B = chance.uniform("scene/scale", *SCALE)
    turn_B = chance.bell("scene/turn", 0.0, TURN)
    free_B = 0.5 - _EDGE * scale_B
    x_B = (0.5 + free_B * chance.uniform("scene/x", -1.0, 1.0)) * size
    y_B = (0.5 + free_B * chance.uniform("scene/y", -1.0, 1.0)) * size
    cos_B, sin_B = scale_B * np.cos(turn_B), scale_B * np.sin(turn_B)
    turn_B22 = np.stack([cos_B, -sin_B, sin_B, cos_B], axis=1).reshape(-1, 2, 2)
    middle_2 = np.array([0.5 * size, _MIDDLE * size])
    shift_B2 = np.stack([x_B, y_B], axis=1) - turn_B22 @ middle_2
    return np.concatenate([turn_B22, shift_B2[..., None]], axis=2).astype(np.float64)


def scene_picture(picture_HW3: np.ndarray, matrix_23: np.ndarray) -> np.ndarray:
    """The picture moved into its scene; what lies beyond its border goes on as the border does."""
    return warp(picture_HW3, matrix_23, len(picture_HW3))

"""The muscles of an expression: what moves, how far, and how that depends on intensity.

B faces, E expressions, M muscles. The prototypes follow the action units of the basic emotions
(Ekman and Friesen, 1978): a closed-mouthed form, and what an open mouth adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_service.corpora._drawn_people import EXPRESSIONS, Columns
from data_service.schema import Expression

MUSCLES = (
    "brow_in", "brow_mid", "brow_out", "knit", "lid_up", "lid_low", "cheek", "wrinkle", "frown",
    "furrow", "width", "corner", "lopsided", "open", "lip_raise", "lip_drop", "press", "square",
    "jaw", "fold", "teeth", "tongue", "brow_side", "rosy", "rage", "queasy", "pale", "weep",
)  # fmt: skip
"""What an expression moves; brows, lids, corners: positive is up. Lengths in half eye distances.
The last five are blood, not muscle: rosy cheeks, an angry flush, green, pallor, eyes that cried."""

_CLOSED: Mapping[Expression, Mapping[str, float]] = {
    Expression.ANGER: {
        "brow_in": -0.36, "brow_mid": -0.2, "brow_out": 0.14, "knit": 0.2, "lid_up": -0.12,
        "lid_low": 0.3, "frown": 1.0, "press": 0.75, "corner": -0.1, "width": -0.04,
        "wrinkle": 0.15, "rage": 1.0,
    },
    Expression.CONTEMPT: {
        "lopsided": 0.74, "corner": -0.04, "lid_up": -0.6, "lid_low": 0.2, "brow_side": 0.46,
        "brow_in": -0.08, "fold": 0.7, "width": 0.04, "press": 0.35,
    },
    Expression.DISGUST: {
        "brow_in": -0.2, "brow_mid": -0.14, "brow_out": -0.06, "knit": 0.08, "lid_up": -0.42,
        "lid_low": 0.5, "cheek": 0.6, "wrinkle": 1.0, "lip_raise": 0.22, "corner": -0.16,
        "fold": 1.0, "open": 0.08, "width": -0.08, "square": 0.4, "queasy": 1.0,
    },
    Expression.FEAR: {
        "brow_in": 0.42, "brow_mid": 0.26, "brow_out": 0.08, "knit": 0.2, "lid_up": 0.65,
        "furrow": 0.8, "width": 0.24, "corner": -0.12, "open": 0.22, "lip_drop": 0.05,
        "square": 0.9, "teeth": 0.5, "jaw": 0.1, "press": 0.35, "pale": 1.0,
    },
    Expression.HAPPINESS: {
        "corner": 0.42, "width": 0.3, "cheek": 1.0, "lid_low": 0.55, "lid_up": -0.14,
        "fold": 0.9, "press": 0.15, "teeth": 1.0, "rosy": 1.0,
    },
    Expression.NEUTRAL: {},
    Expression.SADNESS: {
        "brow_in": 0.42, "brow_mid": -0.02, "brow_out": -0.24, "knit": 0.16, "lid_up": -0.4,
        "corner": -0.36, "width": -0.12, "furrow": 0.25, "lip_drop": -0.04, "fold": 0.25,
        "weep": 1.0,
    },
    Expression.SURPRISE: {
        "brow_in": 0.32, "brow_mid": 0.4, "brow_out": 0.32, "lid_up": 0.7, "furrow": 1.0,
        "open": 0.46, "width": -0.24, "jaw": 0.42, "lip_raise": 0.04, "tongue": 0.4,
        "square": 0.1,
    },
}  # fmt: skip
_OPEN: Mapping[Expression, Mapping[str, float]] = {
    Expression.ANGER: {
        "open": 0.3, "press": -0.5, "square": 1.0, "teeth": 2.0, "lip_raise": 0.06,
        "jaw": 0.12, "width": 0.08, "wrinkle": 0.2, "fold": 0.5,
    },
    Expression.CONTEMPT: {"lopsided": 0.05},
    Expression.DISGUST: {"open": 0.2, "tongue": 1.0, "jaw": 0.15},
    Expression.FEAR: {"open": 0.14, "jaw": 0.12},
    Expression.HAPPINESS: {"open": 0.34, "jaw": 0.12},
    Expression.NEUTRAL: {},
    Expression.SADNESS: {"open": 0.06, "square": 0.2},
    Expression.SURPRISE: {"open": 0.16, "jaw": 0.14},
}  # fmt: skip
_CLOSED_EM, _OPEN_EM = (
    np.array([[table[e].get(m, 0.0) for m in MUSCLES] for e in EXPRESSIONS], np.float32)
    for table in (_CLOSED, _OPEN)
)


STRENGTH = np.float32(1.15)
"""Drawn faces overact a little: at 48 px a brow's movement is otherwise about one pixel."""


def muscles(expression_B: np.ndarray, intensity_B: np.ndarray, sitting: Columns) -> Columns:
    """What each face moves: linear in intensity; how open the mouth is depends on the sitting."""
    openness_B1 = np.clip(sitting["open"] * 2.4 - 0.9, 0.0, 1.0)[:, None]
    moved_BM = _CLOSED_EM[expression_B] + openness_B1 * _OPEN_EM[expression_B]
    moved_BM = moved_BM * (STRENGTH * np.asarray(intensity_B, np.float32)[:, None])
    return {name: moved_BM[:, index] for index, name in enumerate(MUSCLES)}

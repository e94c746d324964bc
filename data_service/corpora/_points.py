"""Landmarks as corpora deliver them: a text or numbers become x, y, confidence, or nothing.

Shapes: L landmarks, 5 or 68.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FARTHEST = 1e6
"""No point lies so many pixels from the corner of its picture."""


def landmarks(values: Sequence[str] | np.ndarray, count: int) -> np.ndarray | None:
    """`count` points from x1, y1, x2, y2 ...: float32 L x 3, with full confidence.

    None where they are not that many numbers, lie beyond any picture, or do not stand as in a face:
    seen from the eyes the mouth is below, which tells mirrored or confused points. Then the
    detector places the face.
    """
    try:
        flat = np.asarray(values, dtype=np.float64).ravel()
    except ValueError:
        return None
    if flat.size != 2 * count or not (np.abs(flat) < FARTHEST).all():
        return None
    points_L2 = flat.reshape(count, 2)
    if not _is_face(points_L2):
        return None
    return np.column_stack([points_L2, np.ones(count)]).astype(np.float32)


def _is_face(points_L2: np.ndarray) -> bool:
    if len(points_L2) == 68:
        left, right = points_L2[36:42].mean(axis=0), points_L2[42:48].mean(axis=0)
        mouth = points_L2[48:68].mean(axis=0)
    else:
        left, right, mouth = points_L2[0], points_L2[1], points_L2[3:5].mean(axis=0)
    along, down = right - left, mouth - (left + right) / 2
    turn = along[0] * down[1] - along[1] * down[0]
    return bool(turn > 0.25 * np.linalg.norm(along) * np.linalg.norm(down) > 0)

"""Landmarks that belong to another picture are left aside; the face goes on without them."""

from __future__ import annotations

import numpy as np
import pytest

from data_service.alignment.align import TEMPLATE_52, Aligner, as_delivered, believable
from data_service.alignment.detect import FaceDetector

SIDE = 64
PICTURE = np.full((SIDE, SIDE, 3), 90, np.uint8)


def points(scale: float = 1.0, shift: float = 0.0, count: int = 5) -> np.ndarray:
    """The template's five points as landmarks of a picture of 64 px; more are copies of them."""
    landmarks_L3 = np.ones((count, 3))
    landmarks_L3[:, :2] = np.resize(TEMPLATE_52, (count, 2)) * SIDE * scale + shift
    return landmarks_L3


STRANGE = {
    "of a larger copy": points(scale=8.0),
    "of another place": points(shift=-200.0),
    "of another kind": points(count=21),
    "not finite": points() * np.nan,
    "both eyes at one place": points(scale=0.0, shift=9.0),
}


@pytest.mark.parametrize("landmarks_L3", STRANGE.values(), ids=STRANGE)
def test_strange_landmarks_are_left_aside(landmarks_L3: np.ndarray, monkeypatch) -> None:
    assert not believable(landmarks_L3, PICTURE)
    assert as_delivered(PICTURE, side=32, landmarks_L3=landmarks_L3).landmarks_L3 is None
    monkeypatch.setattr(FaceDetector, "__init__", lambda self, **_: None)
    monkeypatch.setattr(FaceDetector, "detect", lambda self, *_, **__: [])
    placed = Aligner().place(PICTURE, side=32, landmarks_L3=landmarks_L3)
    assert (placed.alignment, placed.landmarks_L3) == ("centre", None)


def test_a_face_may_reach_beyond_the_border() -> None:
    cut = points()
    cut[3:, 1] += SIDE / 2
    assert believable(cut, PICTURE)
    kept = as_delivered(PICTURE, side=32, landmarks_L3=points()).landmarks_L3
    assert kept is not None and np.allclose(kept[:, :2], TEMPLATE_52 * 32, atol=0.5)

"""Landmarks that belong to another picture: the face is put aside with its reason, others go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_service.align import TEMPLATE_52, mismatch
from data_service.rows import Recipe, RowMaker
from data_service.schema import Expression, SourceFace

SIDE = 64


def points(scale: float = 1.0, shift: float = 0.0, count: int = 5) -> np.ndarray:
    """The template's five points as landmarks of a picture of 64 px; more are copies of them."""
    landmarks_L3 = np.ones((count, 3))
    landmarks_L3[:, :2] = np.resize(TEMPLATE_52, (count, 2)) * SIDE * scale + shift
    return landmarks_L3


def test_faces_with_landmarks_of_another_picture_are_put_aside(tmp_path: Path) -> None:
    faces = []
    given = {"good": points(), "larger": points(scale=8.0), "above": points(shift=-200.0)}
    for name, landmarks_L3 in given.items():
        path = tmp_path / f"{name}.png"
        Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8)).save(path)
        faces.append(
            SourceFace(
                name=name,
                subject=None,
                expression=Expression.FEAR,
                path=path,
                landmarks_L3=landmarks_L3,
            )
        )
    recipe = Recipe(corpus="photos", image_size=32, channels=3, aligned=False)
    table, rejected = RowMaker(recipe).rows(faces)
    assert table["name"].to_pylist() == ["good"]
    assert [one.name for one in rejected] == ["larger", "above"]
    assert {one.reason for one in rejected} == {"landmarks do not match the picture"}
    assert rejected[0].detail == "0 of 5 points within 64 x 64"


@pytest.mark.parametrize(
    ("landmarks_L3", "why"),
    [
        (points(count=21), "21 points; valid: 5 or 68"),
        (points() * np.nan, "a point is not finite"),
        (points(scale=0.0, shift=9.0), "both eyes at one place"),
    ],
)
def test_what_is_no_face_is_told(landmarks_L3: np.ndarray, why: str) -> None:
    assert mismatch(landmarks_L3, np.zeros((SIDE, SIDE, 3), np.uint8)) == why


def test_a_face_may_reach_beyond_the_border() -> None:
    cut = points()
    cut[3:, 1] += SIDE / 2
    assert mismatch(cut, np.zeros((SIDE, SIDE, 3), np.uint8)) is None

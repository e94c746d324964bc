"""The drawn corpus: deterministic, balanced, with landmarks that sit on what is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_service.corpora import drawn
from data_service.schema import Expression

STUDIO = {"light_x": 0.0, "gaze_x": 0.0, "gaze_y": 0.0}


def one(expression: Expression, intensity: float = 1.0, *, subject: int = 3, **fixed: float):
    return drawn.draw(
        subjects=[subject],
        expressions=[expression],
        intensities=[intensity],
        difficulty=0.0,
        fixed=STUDIO | {"open": 0.5} | fixed,
    )


def test_the_same_face_in_any_batch_bit_for_bit():
    faces = drawn.scan(None, subjects=4, faces_per_subject=9, seed=5, size=96).faces
    together = drawn.images(faces)
    order = np.random.default_rng(0).permutation(len(faces))
    shuffled = drawn.images([faces[index] for index in order])
    alone = np.concatenate([drawn.images([face]) for face in faces[10:20]])
    assert together.shape == (36, 96, 96, 3)
    assert together.dtype == np.uint8
    assert np.array_equal(together[order], shuffled)
    assert np.array_equal(together[10:20], alone)


def test_a_face_does_not_depend_on_how_many_are_planned():
    few = drawn.scan(None, subjects=2, faces_per_subject=8, seed=1, size=48).faces
    many = drawn.scan(None, subjects=5, faces_per_subject=20, seed=1, size=48).faces
    by_name = {face.name: face for face in many}
    same = [by_name[face.name] for face in few]
    assert [face.intensity for face in same] == [face.intensity for face in few]
    assert np.array_equal(drawn.images(few), drawn.images(same))


def test_a_sitting_differs_by_expression_and_small_movements():
    faces = drawn.scan(None, subjects=3, faces_per_subject=24, size=64).faces
    sittings = [faces[start : start + 8] for start in range(0, len(faces), 8)]
    assert all({face.expression for face in sitting} == set(Expression) for sitting in sittings)
    assert all(len({(face.subject, face.sitting) for face in each}) == 1 for each in sittings)
    assert len({(face.subject, face.sitting) for face in faces}) == len(sittings)

    def spread(name: str, groups: list) -> float:
        return np.mean([np.std([face.attributes[name] for face in group]) for group in groups])

    for name in ("yaw", "pitch", "roll"):
        strangers = [[sitting[0] for sitting in sittings]]
        assert 0 < spread(name, sittings) < 0.3 * spread(name, strangers)


def test_seeds_differ():
    faces = [drawn.scan(None, subjects=1, seed=seed, size=48).faces for seed in (0, 1)]
    assert not np.array_equal(drawn.images(faces[0]), drawn.images(faces[1]))


def test_every_subject_has_every_expression_equally_often():
    faces = drawn.scan(None, subjects=5, faces_per_subject=20).faces
    for subject in {face.subject for face in faces}:
        counts = Counter(face.expression for face in faces if face.subject == subject)
        assert set(counts) == set(Expression)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert len({face.name for face in faces}) == len(faces)
    for face in faces:
        assert face.landmarks_L3.shape == (68, 3)
        low, high = drawn.INTENSITY_RANGE
        neutral = face.expression is Expression.NEUTRAL
        assert face.intensity == 0.0 if neutral else low <= face.intensity <= high


def test_imbalance_leaves_faces_out_and_changes_none_that_stays():
    whole = {face.name: face for face in drawn.scan(None, subjects=200, faces_per_subject=16).faces}
    tailed = drawn.scan(None, subjects=200, faces_per_subject=16, imbalance=8.0).faces
    counts = Counter(face.expression for face in tailed)
    expected = [400 * 8.0 ** (-rank / 7) for rank in range(8)]
    found = [counts[expression] for expression in drawn.COMMON_FIRST]
    assert found == pytest.approx(expected, rel=0.25)
    assert all(repr(face) == repr(whole[face.name]) for face in tailed)
    none = drawn.scan(None, subjects=1, faces_per_subject=1, imbalance=100.0, scenes=True, seed=1)
    assert none.faces == ()


@pytest.mark.parametrize("size", [32, 50, 64, 128, 161])
def test_any_size(size: int):
    faces = drawn.scan(None, subjects=1, faces_per_subject=8, size=size).faces
    assert drawn.images(faces).shape == (8, size, size, 3)
    assert all(face.landmarks_L3[:, :2].min() >= 0 for face in faces)
    assert all(face.landmarks_L3[:, :2].max() < size for face in faces)


def test_a_larger_picture_shows_the_same_face():
    small, large = (
        drawn.scan(None, subjects=2, faces_per_subject=4, size=size, difficulty=0.0).faces
        for size in (64, 128)
    )
    shrunk = drawn.images(large).reshape(8, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - drawn.images(small)).mean() < 6.0
    for a, b in zip(small, large):
        doubled = (a.landmarks_L3[:, :2] + 0.5) * 2.0 - 0.5
        np.testing.assert_allclose(doubled, b.landmarks_L3[:, :2], atol=1e-3)


def test_landmarks_are_in_ibug_order():
    points = one(Expression.NEUTRAL).landmarks_BL2[0]
    x, y = points.T
    assert np.all(np.diff(x[0:17]) > 0) and np.argmax(y) == 8
    assert np.all(np.diff(x[17:27]) > 0)
    assert np.all(np.diff(y[27:31]) > 0) and np.all(np.diff(x[31:36]) > 0)
    for corner, other, above, below in ((36, 39, 37, 41), (42, 45, 43, 47)):
        assert x[corner] < x[other] and y[above] < y[below]
        assert abs(x[above] - x[below]) < 1.0
    assert x[48] == x[48:60].min() and x[54] == x[48:60].max()
    assert y[51] < y[62] <= y[66] + 1e-3 and y[66] < y[57]


def test_landmarks_sit_on_the_pupils_and_the_open_mouth():
    """Eye centres are dark and the open mouth is darker than the cheek, at any pose."""
    drawing = drawn.draw(
        subjects=range(24),
        expressions=[Expression.SURPRISE] * 24,
        intensities=[1.0] * 24,
        takes=range(24),
        size=256,
        fixed={"cut": 0.0, "occluder": 0.0, "noise": 0.0, "gaze_x": 0.0, "glasses": 0.0},
    )
    for picture, points in zip(drawing.images_BHWC.mean(axis=-1), drawing.landmarks_BL2):

        def level(x: float, y: float, picture: np.ndarray = picture) -> float:
            return picture[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean()

        white = max(level(*(points[36:42].mean(0) * 0.4 + points[a] * 0.6)) for a in (36, 39))
        assert level(*points[36:42].mean(axis=0)) < white
        assert level(*points[60:68].mean(axis=0)) < 0.8 * level(*points[29]) + 5


def test_landmarks_follow_pose():
    straight = one(Expression.NEUTRAL).landmarks_BL2[0]
    turned = one(Expression.NEUTRAL, yaw=0.3).landmarks_BL2[0]
    rolled = one(Expression.NEUTRAL, roll=0.2).landmarks_BL2[0]
    assert turned[30, 0] - straight[30, 0] > turned[36, 0] - straight[36, 0] > 2.0
    eyes = rolled[42:48].mean(axis=0) - rolled[36:42].mean(axis=0)
    assert np.arctan2(eyes[1], eyes[0]) == pytest.approx(0.2, abs=0.02)


def test_intensity_moves_the_face_continuously_and_nothing_else():
    levels = np.linspace(0.0, 1.0, 7)
    drawing = drawn.draw(
        subjects=[4] * 7, expressions=[Expression.HAPPINESS] * 7, intensities=levels, takes=2
    )
    neutral = drawn.draw(subjects=[4], expressions=[Expression.NEUTRAL], intensities=[0.0], takes=2)
    assert np.array_equal(drawing.images_BHWC[0], neutral.images_BHWC[0])
    width = drawing.landmarks_BL2[:, 54, 0] - drawing.landmarks_BL2[:, 48, 0]
    assert np.all(np.diff(width) > 0)
    change = np.abs(drawing.images_BHWC.astype(float) - neutral.images_BHWC).mean(axis=(1, 2, 3))
    assert np.all(np.diff(change) > 0)
    corner = np.s_[:, :24, :24]
    assert np.array_equal(drawing.images_BHWC[0][corner[1:]], drawing.images_BHWC[6][corner[1:]])


def test_expressions_move_what_they_are_known_for():
    def moved(expression: Expression) -> np.ndarray:
        return one(expression).landmarks_BL2[0] - one(Expression.NEUTRAL).landmarks_BL2[0]

    assert moved(Expression.SADNESS)[21, 1] < 0 < moved(Expression.SADNESS)[17, 1]
    assert moved(Expression.ANGER)[21, 1] > 0
    assert moved(Expression.SURPRISE)[19, 1] < 0 < moved(Expression.SURPRISE)[8, 1]
    happy = moved(Expression.HAPPINESS)
    assert happy[48, 0] < 0 < happy[54, 0] and happy[48, 1] < happy[51, 1]
    contempt = moved(Expression.CONTEMPT)
    assert abs(contempt[48, 1] - contempt[54, 1]) > 2.0


def test_identity_outweighs_expression_in_colour():
    """The same subject twice is nearer than two subjects: hair, skin and bones stay."""
    subjects = np.repeat(np.arange(12), 2)
    expressions = [Expression.NEUTRAL, Expression.HAPPINESS] * 12
    faces = drawn.draw(
        subjects=subjects,
        expressions=expressions,
        intensities=[0.0, 1.0] * 12,
        size=64,
        difficulty=0.0,
        fixed={"backdrop_r": 0.5, "backdrop_g": 0.5, "backdrop_b": 0.5, "backdrop_slope": 0.0},
    ).images_BHWC.astype(float)
    distance = np.abs(faces[::2, None] - faces[None, 1::2]).mean(axis=(2, 3, 4))
    assert np.array_equal(distance.argmin(axis=1), np.arange(12))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"imbalance": 0.5}, "imbalance must be from 1.0 to 100.0, got 0.5"),
        ({"subjects": 0}, "subjects must be from 1"),
        ({"size": 8}, "size must be from 32"),
        ({"difficulty": -1.0}, "difficulty must be from 0"),
        ({"faces_per_subject": 0}, "faces_per_subject must be from 1"),
    ],
)
def test_options_out_of_range(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        drawn.scan(None, **options)


def test_a_source_or_an_unknown_number_is_refused():
    with pytest.raises(ValueError, match="takes no source"):
        drawn.scan(Path("somewhere"))
    with pytest.raises(ValueError, match=r"no number 'smile'.*valid: .*yaw"):
        one(Expression.NEUTRAL, smile=1.0)
    mixed = [drawn.scan(None, subjects=1, size=size).faces[0] for size in (48, 64)]
    with pytest.raises(ValueError, match="must share"):
        drawn.images(mixed)

"""Faces stand where the template says, at every size, from points given or found."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_service.alignment.align import (
    TEMPLATE_52,
    Aligner,
    as_delivered,
    five_points,
    main_face,
    moved,
    placed_by,
    similarity,
    warp,
)
from data_service.alignment.decode import decode
from data_service.alignment.detect import Detection, FaceDetector, suppress
from data_service.schema import ALIGNMENTS

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_photographs = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the development photographs are not here"
)


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner()


def smooth_picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def bilinear(image_HW3: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
    """The image at points between pixels, written out, with repeated edges."""
    high_2 = np.array(image_HW3.shape[1::-1]) - 1
    points_N2 = np.clip(points_N2, 0, high_2)
    low = np.minimum(points_N2.astype(int), high_2 - 1)
    x, y = (points_N2 - low).T
    image = image_HW3.astype(float)
    rows = [image[low[:, 1] + j, low[:, 0] + i] for j in (0, 1) for i in (0, 1)]
    shares = [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]
    return sum(row * share[:, None] for row, share in zip(rows, shares, strict=True))


def test_similarity_finds_the_turn_scale_and_shift():
    angle, scale = np.deg2rad(25), 1.7
    turn_22 = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target_52 = TEMPLATE_52 @ turn_22.T + [3, -4]
    matrix_23 = similarity(TEMPLATE_52, target_52)
    np.testing.assert_allclose(matrix_23, np.column_stack([turn_22, [3, -4]]), atol=1e-12)


def test_similarity_does_not_mirror():
    mirrored_52 = TEMPLATE_52 * [-1, 1]
    assert np.linalg.det(similarity(TEMPLATE_52, mirrored_52)[:, :2]) > 0


def test_similarity_of_points_in_one_place_is_finite():
    assert np.isfinite(similarity(np.zeros((5, 2)), TEMPLATE_52)).all()


@pytest.mark.parametrize("scale", [1.6, 1.0, 0.6])
def test_warp_is_bilinear_interpolation(scale):
    image_HW3 = smooth_picture(150, 170)
    matrix_23 = np.array([[scale, 0.1, 4.3], [-0.1, scale, -2.7]])
    crop = warp(image_HW3, matrix_23, 80)
    grid_N2 = np.stack(np.meshgrid(np.arange(80), np.arange(80)), axis=-1).reshape(-1, 2)
    back_23 = cv2.invertAffineTransform(matrix_23)
    exact = bilinear(image_HW3, moved(grid_N2.astype(float), back_23)).reshape(80, 80, 3)
    difference = np.abs(crop - exact)
    assert difference.max() < 3 and difference.mean() < 0.6


@pytest.mark.parametrize("shrink", [3, 4, 7.5])
def test_warp_averages_when_it_shrinks(shrink):
    image_HW3 = np.zeros((300, 300, 3), np.uint8)
    image_HW3[::2] = 255  # stripes that plain bilinear sampling turns into bands
    scale = 1 / shrink
    crop = warp(image_HW3, np.array([[scale, 0, 0.2], [0, scale, 0.2]]), 36)[2:-2, 2:-2]
    assert abs(crop.mean() - 127.5) < 3
    assert crop.std() < (45 if int(shrink) % 2 else 3)


def test_warp_keeps_positions_when_it_averages():
    image_HW3 = np.zeros((400, 400, 3), np.uint8)
    cv2.circle(image_HW3, (150, 220), 25, (255, 255, 255), -1)
    matrix_23 = np.array([[0.21, 0, 5.0], [0, 0.21, -3.0]])
    crop = warp(image_HW3, matrix_23, 90)[..., 0].astype(float)
    rows, columns = np.indices(crop.shape)
    centre_2 = [(columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()]
    np.testing.assert_allclose(centre_2, moved(np.array([150.0, 220.0]), matrix_23), atol=0.15)


@pytest.mark.parametrize("side", [48, 96, 128, 200])
def test_given_points_meet_the_template(side):
    points_52 = TEMPLATE_52 @ np.array([[150, 40], [-40, 150]]) + [60, 20]
    landmarks_53 = np.column_stack([points_52, np.full(5, 0.7)])
    placed = placed_by(
        smooth_picture(300, 300), landmarks_53, side, alignment="corpus", confidence=1.0
    )
    assert placed.image_SS3.shape == (side, side, 3)
    np.testing.assert_allclose(placed.landmarks_L3[:, :2], TEMPLATE_52 * side, atol=1e-9)
    np.testing.assert_array_equal(placed.landmarks_L3[:, 2], 0.7)


def test_sixty_eight_landmarks_give_five_points_and_travel_whole(aligner):
    landmarks_L3 = np.column_stack(
        [np.random.default_rng(0).uniform(80, 160, (68, 2)), np.ones(68)]
    )
    landmarks_L3[36:42, :2] = (100, 110)
    landmarks_L3[42:48, :2] = (140, 110)
    for index, point in ((30, (120, 133)), (48, (104, 156)), (54, (137, 156))):
        landmarks_L3[index, :2] = point
    expected_52 = [(100, 110), (140, 110), (120, 133), (104, 156), (137, 156)]
    np.testing.assert_array_equal(five_points(landmarks_L3), expected_52)
    placed = aligner.place(smooth_picture(240, 240), side=128, landmarks_L3=landmarks_L3)
    assert (placed.alignment, placed.confidence) == ("corpus", 1.0)
    assert placed.landmarks_L3.shape == (68, 3)
    np.testing.assert_allclose(five_points(placed.landmarks_L3), TEMPLATE_52 * 128, atol=3)


def test_landmarks_of_another_copy_of_the_picture_are_not_believed(aligner):
    points_52 = TEMPLATE_52 * 100
    for scale, way in ((1.0, "corpus"), (1.3, "corpus"), (1.6, "centre")):
        landmarks_53 = np.column_stack([points_52 * scale, np.ones(5)])
        placed = aligner.place(smooth_picture(100, 100), side=64, landmarks_L3=landmarks_53)
        assert placed.alignment == way


def test_other_numbers_of_landmarks_are_refused():
    with pytest.raises(ValueError, match="12 landmarks cannot place a face; valid: 5 or 68"):
        five_points(np.zeros((12, 3)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 2), (13, 11), (200, 200)])
def test_a_picture_without_a_face_gives_a_centre_crop(aligner, shape):
    placed = aligner.place(np.full((*shape, 3), 90, np.uint8), side=64)
    assert (placed.alignment, placed.confidence) == ("centre", 0.0)
    assert placed.landmarks_L3 is None
    assert placed.image_SS3.shape == (64, 64, 3) and (placed.image_SS3 == 90).all()


@pytest.mark.parametrize(
    ("found_at", "shape", "way", "calls"),
    [
        (0, TEMPLATE_52, "detector", 1),
        (1, TEMPLATE_52, "detector", 2),
        (2, TEMPLATE_52, "fallback", 3),
        (2, TEMPLATE_52 * (1, 0.1), "centre", 3),
        (3, TEMPLATE_52, "centre", 3),
    ],
)
def test_ways_are_tried_from_strict_to_lax(monkeypatch, found_at, shape, way, calls):
    aligner, asked = Aligner(), []
    side, padding = 100, 20

    def detect(image_HW3, *, min_face_pixels, thresholds=None):
        asked.append((image_HW3.shape[0], min_face_pixels, thresholds))
        shift = padding if image_HW3.shape[0] > side else 0
        points_52 = shape * side + shift
        box_4 = np.array([0, 0, side, side]) + shift
        found = Detection(box_4=box_4, probability=0.5, points_52=points_52)
        return [found] if len(asked) == found_at + 1 else []

    monkeypatch.setattr(aligner._detector, "detect", detect)
    placed = aligner.place(smooth_picture(side, side), side=64)
    assert placed.alignment == way and len(asked) == calls
    assert [one[:2] for one in asked] == [(100, 40), (140, 20), (140, 20)][:calls]
    assert [one[2] for one in asked[:2]] == [None, None][:calls]
    if way == "centre":
        assert placed.landmarks_L3 is None and placed.confidence == 0
    else:
        np.testing.assert_allclose(placed.landmarks_L3[:, :2], TEMPLATE_52 * 64, atol=1e-6)


@pytest.mark.parametrize("shape", [(300, 200), (64, 64)])
def test_the_matrix_leads_from_the_picture_to_the_crop(aligner, shape):
    picture = smooth_picture(*shape)
    for placed in (as_delivered(picture, side=32), aligner.place(picture, side=32)):
        middle_12 = (np.array([shape[1], shape[0]]) - 1)[None] / 2
        np.testing.assert_allclose(moved(middle_12, placed.matrix_23), [[15.5, 15.5]])


def test_delivered_faces_are_only_brought_to_size():
    image_SS3 = smooth_picture(128, 128)
    landmarks_53 = np.column_stack([TEMPLATE_52 * 128, np.ones(5)])
    landmarks_53[2, :2] = (63.5, 31.5)
    same = as_delivered(image_SS3, side=128, landmarks_L3=landmarks_53)
    np.testing.assert_array_equal(same.image_SS3, image_SS3)
    np.testing.assert_allclose(same.landmarks_L3, landmarks_53)
    half = as_delivered(image_SS3, side=64, landmarks_L3=landmarks_53)
    np.testing.assert_allclose(half.landmarks_L3[2], [31.5, 15.5, 1])
    blocks = image_SS3.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(half.image_SS3 - blocks).max() <= 1
    assert half.alignment == "none"


def test_of_several_faces_the_large_central_one_is_taken():
    def face(left: float, top: float, side: float) -> Detection:
        box_4 = np.array([left, top, left + side, top + side])
        return Detection(box_4=box_4, probability=0.9, points_52=np.zeros((5, 2)))

    image_HW3 = np.zeros((200, 300, 3), np.uint8)
    small, central, corner = face(140, 90, 20), face(110, 60, 80), face(0, 0, 90)
    assert main_face([small, corner, central], image_HW3) is central


def test_suppression_keeps_the_most_probable_of_overlapping_boxes():
    boxes_N4 = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 30, 40, 40], [32, 32, 36, 36.0]])
    probability_N = np.array([0.8, 0.9, 0.7, 0.6])
    assert suppress(boxes_N4, probability_N, 0.5).tolist() == [1, 2, 3]
    assert suppress(boxes_N4, probability_N, 0.5, by_smaller=True).tolist() == [1, 2]


def test_detector_finds_nothing_in_a_picture_smaller_than_a_face():
    assert FaceDetector().detect(np.zeros((20, 20, 3), np.uint8)) == []


def test_detector_sees_large_pictures_in_bounded_size(monkeypatch):
    detector, seen = FaceDetector(), []
    resize = cv2.resize
    monkeypatch.setattr(
        cv2, "resize", lambda image, size, **how: seen.append(size) or resize(image, size, **how)
    )
    detector.detect(np.zeros((200, 4000, 3), np.uint8), min_face_pixels=20)
    assert max(map(max, seen)) == 1200


def test_ways_are_those_of_the_contract(aligner):
    way, _ = aligner.find(np.zeros((50, 50, 3), np.uint8))
    assert {way, "detector", "fallback", "corpus", "box", "none"} == set(ALIGNMENTS)


@needs_photographs
def test_found_eyes_are_where_people_placed_them(aligner):
    errors = []
    with open(SHARED / "london" / "eyes.csv", newline="") as table:
        for row in csv.DictReader(table):
            truth_22 = np.array([float(row[key]) for key in ("x1", "y1", "x2", "y2")]).reshape(2, 2)
            image_HW3 = decode((SHARED / "london" / row["file"]).read_bytes())
            way, found = aligner.find(image_HW3)
            assert way == "detector"
            away = np.linalg.norm(found.points_52[:2] - truth_22, axis=1).mean()
            errors.append(away / np.linalg.norm(truth_22[1] - truth_22[0]))
    assert len(errors) == 102
    assert np.median(errors) <= 0.03
    assert np.percentile(errors, 95) <= 0.06


@needs_photographs
@pytest.mark.slow
def test_nearly_all_photographs_are_placed_by_the_detector(aligner):
    ways = {"L": Counter(), "F": Counter()}
    with open(SHARED / "photos" / "labels.csv", newline="") as table:
        for row in csv.DictReader(table):
            way, _ = aligner.find(decode((SHARED / "photos" / row["file"]).read_bytes()))
            ways[row["subject"][0]][way] += 1
    everything = ways["L"] + ways["F"]
    assert everything["detector"] / everything.total() >= 0.96
    assert ways["L"]["detector"] / ways["L"].total() >= 0.98


@needs_photographs
def test_turned_portraits_are_set_upright(aligner):
    for path in sorted((SHARED / "london" / "images").glob("*.jpg"))[::40]:
        portrait_HW3 = decode(path.read_bytes())
        for turns in (0, 1, 3):
            turned_HW3 = np.ascontiguousarray(np.rot90(portrait_HW3, turns))
            found_HW3 = aligner.upright(turned_HW3, ("whole", "clockwise", "anticlockwise"))
            np.testing.assert_array_equal(found_HW3, portrait_HW3)

"""Transforms: seeded per sample, partners alike, landmarks where their pixels went."""

import math

import numpy as np
import pytest
import torch

from data_service import seeds
from data_service.crops import FLIPPED_5, FLIPPED_68
from data_service.transforms import (
    Augmentation,
    AugmentConfig,
    Crops,
    centre_crop,
    to_float,
)

CPU = torch.device("cpu")
ALL = AugmentConfig(rotation_degrees=20, scale=0.2, brightness=0.2, contrast=0.3, erase=0.5)


def keys(count):
    return seeds.keys(0, "test", np.arange(count))


def faces(count, side=40, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_what_numpy_cuts(channels):
    pixels, rows = faces(20, channels=channels), np.arange(20)[::-1]
    crops = Crops.draw(keys(20), 40, 32, AugmentConfig())
    assert set(crops.flip_B) == {True, False}
    out = np.empty((20, 32, 32, channels), np.uint8)
    crops.cut(pixels, rows, out)
    for index, row in enumerate(rows):
        top, left = crops.top_B[index], crops.left_B[index]
        cut = pixels[row, top : top + 32, left : left + 32]
        assert np.array_equal(out[index], cut[:, ::-1] if crops.flip_B[index] else cut)


@pytest.mark.parametrize(("shift", "low", "high"), [(0, 4, 4), (2, 2, 6), (99, 0, 8)])
def test_crops_stay_around_the_centre(shift, low, high):
    crops = Crops.draw(keys(500), 40, 32, AugmentConfig(crop_shift_pixels=shift))
    for offsets in (crops.top_B, crops.left_B):
        assert set(offsets) == set(range(low, high + 1))


def test_an_odd_margin_is_used_wholly():
    crops = Crops.draw(keys(500), 41, 32, AugmentConfig(crop_shift_pixels=99))
    assert set(crops.top_B) == set(range(9)) and crops.top_B.max() + 32 <= 41


def test_a_sample_does_not_depend_on_its_batch():
    whole = Crops.draw(keys(20), 40, 32, AugmentConfig())
    part = Crops.draw(keys(20)[7:9], 40, 32, AugmentConfig())
    assert np.array_equal(part.top_B, whole.top_B[7:9])
    batch = to_float(torch.from_numpy(faces(20)))
    both = [
        Augmentation(ALL, key, CPU).cover(Augmentation(ALL, key, CPU).place_and_light(images))
        for key, images in ((keys(20), batch), (keys(20)[7:9], batch[7:9]))
    ]
    assert torch.allclose(both[0][7:9], both[1], atol=1e-6)
    assert not torch.equal(both[0], batch)
    assert both[0].abs().max() <= 1


def test_nothing_asked_nothing_done():
    batch = to_float(torch.from_numpy(faces(4)))
    still = Augmentation(AugmentConfig(), keys(4), CPU)
    assert still.cover(still.place_and_light(batch)) is batch


def dots(points, side):
    images = np.zeros((len(points), side, side, 3), np.uint8)
    for image, (x, y) in zip(images, points):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return images


def centroid(image_HW):
    weight = image_HW / image_HW.sum()
    rows, columns = np.indices(image_HW.shape)
    return (weight * columns).sum(), (weight * rows).sum()


def test_landmarks_follow_their_pixels():
    points = np.random.default_rng(1).integers(14, 34, (30, 2))
    landmarks = np.zeros((30, 5, 3), np.float32)
    landmarks[:, 2, :2] = points  # the nose, which mirroring leaves in place
    crops = Crops.draw(keys(30), 48, 40, AugmentConfig(crop_shift_pixels=3))
    cut = np.empty((30, 40, 40, 3), np.uint8)
    crops.cut(dots(points, 48), np.arange(30), cut)
    config = AugmentConfig(rotation_degrees=25, scale=0.2)
    augmentation = Augmentation(config, keys(30), CPU)
    images = augmentation.place_and_light(to_float(torch.from_numpy(cut)))
    moved = augmentation.move(torch.from_numpy(crops.move(landmarks)), 40)
    for image, (x, y, _) in zip(images.numpy(), moved[:, 2].numpy()):
        assert np.allclose(centroid(image[0] + 1), (x, y), atol=0.2)


@pytest.mark.parametrize("order", [FLIPPED_5, FLIPPED_68])
def test_mirroring_twice_changes_nothing(order):
    assert np.array_equal(order[order], np.arange(len(order)))


def test_a_mirrored_face_has_its_points_in_their_places():
    order = FLIPPED_68
    assert (order[36], order[39], order[41]) == (45, 42, 46)  # corners and lower lid of the eyes
    assert (order[48], order[60], order[57], order[33]) == (54, 64, 57, 33)  # lips, nose
    landmarks = np.random.default_rng(0).uniform(0, 40, (2, 68, 3)).astype(np.float32)
    crops = Crops(
        side=40, top_B=np.zeros(2, int), left_B=np.zeros(2, int), flip_B=np.array([0, 1]) > 0
    )
    moved = crops.move(landmarks)
    assert np.array_equal(moved[0], landmarks[0])
    assert np.allclose(moved[1, 36, 0], 39 - landmarks[1, 45, 0])
    assert moved[1, 36, 2] == landmarks[1, 45, 2]
    with pytest.raises(ValueError, match="valid: 5 or 68"):
        crops.move(landmarks[:, :7])


def test_covering():
    batch = torch.zeros(400, 1, 30, 30)
    covered = Augmentation(AugmentConfig(erase=0.25, erase_size=0.4), keys(400), CPU).cover(batch)
    area = (covered != 0).float().mean(dim=(1, 2, 3)).numpy()
    assert 0.18 < (area > 0).mean() < 0.32
    assert area.max() <= 0.19 and area[area > 0].min() >= 0.025


def test_light_keeps_mean_under_contrast():
    batch = torch.rand(50, 3, 8, 8) - 0.5
    lit = Augmentation(AugmentConfig(contrast=0.5), keys(50), CPU).place_and_light(batch)
    assert torch.allclose(lit.mean(dim=(1, 2, 3)), batch.mean(dim=(1, 2, 3)), atol=1e-5)
    ratio = lit.flatten(1).std(1) / batch.flatten(1).std(1)
    assert ratio.min() >= 0.49 and ratio.max() <= 1.51 and ratio.std() > 0.2


def test_evaluation_sees_the_middle():
    pixels = torch.from_numpy(faces(2)).permute(0, 3, 1, 2)
    seen = centre_crop(pixels, 32)
    assert seen.shape == (2, 3, 32, 32) and seen.dtype == torch.float32
    assert torch.allclose((seen + 1) * 127.5, pixels[:, :, 4:36, 4:36].float(), atol=1e-3)
    crops = Crops.centre(2, 40, 32)
    out = np.empty((2, 32, 32, 3), np.uint8)
    crops.cut(faces(2), np.arange(2), out)
    assert torch.equal(to_float(torch.from_numpy(out)), seen)
    grey = centre_crop(pixels, 32, grey=True)
    assert grey.shape == (2, 1, 32, 32)
    assert torch.equal(
        centre_crop(grey_faces := pixels[:, :1], 32, grey=True), centre_crop(grey_faces, 32)
    )
    with pytest.raises(ValueError, match="cannot be cut to 41"):
        centre_crop(pixels, 41)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"scale": 1.0},
        {"brightness": -1},
        {"crop_shift_pixels": -1},
        {"rotation_degrees": math.nan},
        {"brightness": math.inf},
    ],
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"augment\..* is .*; valid: 0"):
        AugmentConfig(**wrong)

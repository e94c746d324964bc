"""Grids of faces, confusion matrices and curves as pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trainer import between, catalog, pictures
from trainer.overrides import with_overrides


def test_faces_become_pixels():
    faces = torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 2, 2)
    pixels = pictures.as_pixels(faces)
    assert pixels.shape == (1, 2, 2, 3)
    assert pixels[0, :, :, 0].tolist() == [[0, 128], [255, 255]]


def test_a_grid_holds_every_face_in_its_place():
    faces = np.zeros((2, 3, 8, 8, 3), np.uint8)
    faces[1, 2] = 200
    grid = pictures.face_grid(faces, face_pixels=16)
    assert (grid == 200).all(axis=2).sum() == 16 * 16
    named = pictures.face_grid(faces, columns=("a", "b", "c"), rows=("one", "two"), face_pixels=16)
    assert named.shape[0] > grid.shape[0] and named.shape[1] > grid.shape[1]
    assert (named == 200).all(axis=2).sum() == 16 * 16


def test_a_confusion_matrix_darkens_its_diagonal():
    picture = pictures.confusion_picture([[9, 1], [0, 5]], ("anger", "fear"), title="test")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.std() > 10


def test_a_picture_is_written_whole(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    pictures.write_png(image, tmp_path / "grid.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "grid.png")), image)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(("every", "shown"), [(0, False), (4096, True)])
def test_a_run_that_is_to_show_no_samples_shows_none_at_its_end_either(every, shown):
    run = with_overrides(catalog.recipe("fersnet.tiny"), {"logging.samples_every_images": every})
    assert between.shows_samples(run, catalog.load("fersnet")) is shown

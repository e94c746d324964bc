"""Large files of faces: the same pixels, read ahead, and not held."""

import os

import numpy as np
import pytest

from data_service.lakes import mapped
from data_service.lakes.manifest import Manifest
from data_service.lakes.mapped import MappedFaces
from data_service.lakes.window import Window

SHAPE = (40, 31, 31, 3)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "faces.bin"
    path.write_bytes(np.random.default_rng(0).bytes(np.prod(SHAPE)))
    return path


def pixels(file):
    return np.frombuffer(file.read_bytes(), np.uint8).reshape(SHAPE)


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("chunks", [True, False])
def test_the_pixels_are_the_files(file, monkeypatch, large, chunks):
    monkeypatch.setattr(mapped, "LARGE_BYTES", 5000 if large else 10**9)
    faces = MappedFaces(file, SHAPE)
    for rows in (np.array([39, 3, 3, 0]), np.arange(0), np.arange(40)):
        faces.expect(rows, chunks=chunks)
        assert np.array_equal(faces.faces[rows], pixels(file)[rows])
    assert not faces.faces.flags.writeable


@pytest.mark.parametrize("knows", [True, False])
def test_what_is_absent_is_asked_for(file, monkeypatch, knows):
    """Whether the file system tells what is in memory or not."""
    asked = []
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(mapped, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: asked.append((start, size)))
    face_bytes = 31 * 31 * 3
    absent = {3 * face_bytes, 7 * face_bytes} if knows else {row * face_bytes for row in range(40)}

    def preadv(_file, _buffers, place, _flags):
        if not knows or place in absent:
            raise BlockingIOError if knows else OSError("not supported")

    monkeypatch.setattr(os, "preadv", preadv)
    faces = MappedFaces(file, SHAPE)
    faces.expect(np.array([3, 5, 7]))
    wanted = [3, 7] if knows else [3, 5, 7]
    assert asked == [(row * face_bytes, face_bytes) for row in wanted]
    asked.clear()
    faces.expect(np.array([3, 5, 7]), chunks=True)
    covered = {place for start, size in asked for place in range(start, start + size)}
    assert {start % 4096 for start, _ in asked} == {0}
    for row in wanted:
        assert set(range(row * face_bytes, (row + 1) * face_bytes)) <= covered


def test_a_lake_within_the_window_is_shuffled_as_a_whole():
    def lake(count):
        counts = ("classes", "alignments", "rejected", "found", "expected")
        none = {name: {} for name in counts}
        texts = dict.fromkeys(("corpus", "source_hash", "hash"), "")
        numbers = {"image_size": 64, "channels": 1, "count": count, "subjects": 1}
        return Manifest(**none, **texts, **numbers, files=())

    faces_of_a_mebibyte = (1 << 20) // 64**2
    assert Window.of(lake(2 * faces_of_a_mebibyte), 2) is None
    assert Window.of(lake(2 * faces_of_a_mebibyte), 0) is None
    window = Window.of(lake(2 * faces_of_a_mebibyte + 1), 2)
    assert window == Window(faces=2 * faces_of_a_mebibyte, chunk=faces_of_a_mebibyte)

"""Large files of faces: the same pixels, read ahead, and not held."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_service.lakes import mapped
from data_service.lakes.manifest import Manifest
from data_service.lakes.mapped import MappedFaces
from data_service.lakes.window import Pieces, Window

SHAPE = (40, 31, 31, 3)
FACE_BYTES = 31 * 31 * 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "faces.bin"
    path.write_bytes(np.random.default_rng(0).bytes(int(np.prod(SHAPE))))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Start and size of all that the system is asked to read; every file counts as large."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(mapped, "GAP_BYTES", 2 * FACE_BYTES)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: found.append((start, size)))
    return found


def pixels(file: Path) -> np.ndarray:
    return np.frombuffer(file.read_bytes(), np.uint8).reshape(SHAPE)


def covered(asked: list[tuple[int, int]]) -> list[int]:
    return sorted(byte for start, size in asked for byte in range(start, start + size))


@pytest.mark.parametrize("large", [True, False])
def test_the_pixels_are_the_files(file: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    monkeypatch.setattr(mapped, "LARGE_BYTES", 5000 if large else 10**9)
    faces = MappedFaces(file, SHAPE)
    assert (faces.is_large, faces.faces_ahead > 0) == (large, large)
    for rows in (np.array([39, 3, 3, 0]), np.arange(0), np.arange(40)):
        for read in (None, rows[:1], np.arange(40)):
            faces.expect(rows, read=read)
            assert np.array_equal(faces.faces[rows], pixels(file)[rows])
    assert not faces.faces.flags.writeable


@pytest.mark.parametrize("step", [1024, 1 << 17])
def test_faces_are_asked_for_in_full_and_little_else(
    file: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Faces of several steps too, whose middle lies in neither the first nor the last."""
    monkeypatch.setattr(mapped, "STEP_BYTES", step)
    MappedFaces(file, SHAPE).expect(np.array([20, 3, 20]))
    found = covered(asked)
    assert len(found) == len(set(found)) and max(size for _, size in asked) <= step
    for row in (3, 20):
        mine = range(row * FACE_BYTES, (row + 1) * FACE_BYTES)
        assert set(mine) <= set(found)
        assert (mine.start - mine.start % mmap.PAGESIZE) in [start for start, _ in asked]
    assert len(found) < 2 * (FACE_BYTES + mmap.PAGESIZE)


def test_neighbours_are_asked_for_together(file: Path, asked: list[tuple[int, int]]) -> None:
    faces = MappedFaces(file, SHAPE)
    faces.expect(np.array([7, 5, 9, 12]), read=np.array([9, 7, 5, 13]))
    (one, other) = asked
    assert sum(one) == 10 * FACE_BYTES and sum(other) == 14 * FACE_BYTES
    asked.clear()
    faces.expect(np.arange(0))
    assert not asked


def test_a_small_file_asks_for_nothing(
    file: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "LARGE_BYTES", 10**9)
    MappedFaces(file, SHAPE).expect(np.arange(40))
    assert not asked


def test_no_more_is_mapped_than_may_be(
    file: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Linux maps around a page counts too."""
    advice: list[int] = []
    faces = MappedFaces(file, SHAPE)
    monkeypatch.setattr(mapped, "LARGE_BYTES", 10 * (FACE_BYTES + mapped.AROUND_BYTES))
    monkeypatch.setattr(faces, "_map", SimpleNamespace(madvise=advice.append))
    for coming, times in ((4, 0), (6, 0), (1, 1), (9, 1), (1, 2)):
        faces.expect(np.arange(coming))
        assert advice == [mmap.MADV_DONTNEED] * times


def test_a_lake_within_the_window_is_shuffled_as_a_whole() -> None:
    def lake(count: int) -> Manifest:
        counts = ("classes", "alignments", "rejected", "found", "expected")
        values: dict[str, Any] = {name: {} for name in counts}
        values |= dict.fromkeys(("corpus", "source_hash", "hash"), "")
        values |= {"image_size": 64, "channels": 1, "count": count, "subjects": 1}
        return Manifest(**values, files=())

    faces_of_a_mebibyte = (1 << 20) // 64**2
    assert Window.of(lake(2 * faces_of_a_mebibyte), 2) is None
    assert Window.of(lake(2 * faces_of_a_mebibyte), 0) is None
    window = Window.of(lake(2 * faces_of_a_mebibyte + 1), 2)
    assert window == Window(faces=2 * faces_of_a_mebibyte, chunk=faces_of_a_mebibyte)


def test_a_piece_is_read_when_its_first_face_comes_and_not_again_for_a_while() -> None:
    rows = np.array([0, 1, 2, 10, 11, 15, 22])
    pieces = Pieces(rows, Window(faces=8, chunk=5), batch=2)  # 15 faces are 8 steps

    def entering(step: int, *shown: int) -> list[int]:
        return pieces.entering(step, np.array(shown, np.int64)).tolist()

    assert entering(0, 15, 1) == [0, 1, 2, 15]
    assert entering(1, 2, 11) == [10, 11]
    assert entering(8, 0, 15) == [] == entering(9)
    assert entering(9, 0, 11) == [0, 1, 2]
    assert entering(0, 0) == [0, 1, 2], "a step long before is another walk"

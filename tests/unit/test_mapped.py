"""Large files of faces: the same pixels, read ahead, and not held."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_service.lakes import mapped
from data_service.lakes.manifest import Manifest
from data_service.lakes.mapped import MappedFaces
from data_service.lakes.window import GAP_BYTES, Pieces, Window, together

SHAPE = (40, 31, 31, 3)
FACE_BYTES = 31 * 31 * 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "faces.bin"
    path.write_bytes(np.random.default_rng(0).bytes(int(np.prod(SHAPE))))
    return path


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Start, size and kind of all advice on the file's bytes; every file counts as large."""
    found: list[tuple[int, int, int]] = []
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(mapped, "GAP_BYTES", 2 * FACE_BYTES)
    monkeypatch.setattr(mapped, "_longest_request", lambda _: 1 << 17)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *advice: found.append(advice))
    return found


def pixels(file: Path) -> np.ndarray:
    return np.frombuffer(file.read_bytes(), np.uint8).reshape(SHAPE)


def done(faces: MappedFaces) -> None:
    """When the thread has done what it was told."""
    faces._thread.submit(int).result()


def covered(advised: list[tuple[int, int, int]], kind: int = os.POSIX_FADV_WILLNEED) -> list[int]:
    there = [(start, size) for start, size, advice in advised if advice == kind]
    return sorted(byte for start, size in there for byte in range(start, start + size))


def is_mapped(faces: MappedFaces) -> np.ndarray:
    """Of each page of the file whether this process has it in its own memory."""
    first, count = faces.faces.ctypes.data // mmap.PAGESIZE, faces.faces.nbytes // mmap.PAGESIZE
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pages:
        pages.seek(8 * first)
        return np.frombuffer(pages.read(8 * count), np.uint64) >> np.uint64(63) == 1


def bytes_of(first: int, end: int) -> range:
    return range(first * FACE_BYTES, end * FACE_BYTES)


@pytest.mark.parametrize("large", [True, False])
def test_the_pixels_are_the_files(file: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    """Whatever is told of them, and where nothing is."""
    monkeypatch.setattr(mapped, "LARGE_BYTES", 5000 if large else 10**9)
    monkeypatch.setattr(mapped, "BEHIND", 1)
    faces = MappedFaces(file, SHAPE)
    assert (faces.is_large, faces.faces_ahead > 0) == (large, large)
    every = np.array([[0, 40]])
    for rows in (np.array([39, 3, 3, 0]), np.arange(0), np.arange(40)):
        faces.expect(rows)
        faces.enter(np.array([[3, 9], [35, 40]]))
        assert np.array_equal(faces.faces[rows], pixels(file)[rows])
        faces.leave(every, keep=20)
        assert np.array_equal(faces.faces[rows], pixels(file)[rows])
    assert not faces.faces.flags.writeable


@pytest.mark.parametrize("longest", [1024, 1 << 17])
def test_faces_are_asked_for_in_full_and_little_else(
    file: Path,
    advised: list[tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    longest: int,
) -> None:
    """Faces of several requests too, whose middle lies in neither the first nor the last."""
    monkeypatch.setattr(mapped, "_longest_request", lambda _: longest)
    faces = MappedFaces(file, SHAPE)
    faces.expect(np.array([20, 3, 20]))
    done(faces)
    found = covered(advised)
    assert len(found) == len(set(found)) and max(size for _, size, _ in advised) <= longest
    for row in (3, 20):
        mine = bytes_of(row, row + 1)
        assert set(mine) <= set(found)
        assert (mine.start - mine.start % mmap.PAGESIZE) in [start for start, *_ in advised]
    assert len(found) < 2 * (FACE_BYTES + mmap.PAGESIZE)


def test_neighbours_are_asked_for_together(file: Path, advised: list[tuple[int, int, int]]) -> None:
    faces = MappedFaces(file, SHAPE)
    faces.expect(np.array([9, 7, 5, 13]))
    done(faces)
    (one, other) = advised
    assert sum(one[:2]) == 10 * FACE_BYTES and sum(other[:2]) == 14 * FACE_BYTES
    advised.clear()
    faces.expect(np.arange(0))
    done(faces)
    assert not advised


def test_what_leaves_is_let_go_and_memory_may_hold_on_the_first_rows(
    file: Path, advised: list[tuple[int, int, int]]
) -> None:
    """A piece that the file ends in goes no further than the file."""
    faces = MappedFaces(file, SHAPE)
    faces.enter(np.array([[0, 6], [12, 20], [36, 40]]))
    faces.leave(np.array([[0, 10], [10, 20], [30, 50]]), keep=10)
    done(faces)
    assert {*bytes_of(0, 6), *bytes_of(12, 20), *bytes_of(36, 40)} <= set(covered(advised))
    gone = set(covered(advised, os.POSIX_FADV_DONTNEED))
    assert {*bytes_of(10, 20), *bytes_of(30, 40)} <= gone and max(gone) < file.stat().st_size
    assert not gone & set(bytes_of(0, 8))


def test_what_entered_is_mapped_when_more_was_asked_for_until_it_leaves(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    faces, ends = MappedFaces(file, SHAPE), [0, (10 * FACE_BYTES - 1) // mmap.PAGESIZE]
    for _ in range(mapped.BEHIND):
        faces.enter(np.array([[0, 10]]))
    done(faces)
    assert not is_mapped(faces).any()
    faces.enter(np.array([[30, 40]]))
    done(faces)
    assert is_mapped(faces)[ends].all()
    faces.leave(np.array([[0, 10]]), keep=40)
    done(faces)
    assert not is_mapped(faces)[ends].any()


def test_no_advice_goes_beyond_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind it in memory is somebody else's, and would be lost."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(mapped, "_madvise", lambda start, size, _: told.append((start, size)))
    faces = MappedFaces(file, SHAPE)
    faces.leave(np.array([[30, 50], [60, 70]]), keep=0)
    done(faces)
    end = faces.faces.ctypes.data + file.stat().st_size
    assert told and all(start + max(0, size) <= end for start, size in told)


def test_a_small_file_is_advised_nothing(
    file: Path, advised: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "LARGE_BYTES", 10**9)
    faces = MappedFaces(file, SHAPE)
    faces.expect(np.arange(40))
    faces.enter(np.array([[0, 40]]))
    faces.leave(np.array([[0, 40]]), keep=0)
    assert not advised


class Mapping:
    """As long as the file; keeps the advice it is given."""

    def __init__(self, told: list[int]) -> None:
        self.madvise = told.append

    def __len__(self) -> int:
        return int(np.prod(SHAPE))


def test_no_more_is_mapped_than_may_be(
    file: Path, advised: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Linux maps around a page counts too."""
    told: list[int] = []
    faces = MappedFaces(file, SHAPE)
    monkeypatch.setattr(mapped, "LARGE_BYTES", 10 * (FACE_BYTES + mapped.AROUND_BYTES))
    monkeypatch.setattr(faces, "_map", Mapping(told))
    for coming, times in ((4, 0), (6, 0), (1, 1), (9, 1), (1, 2)):
        faces.expect(np.arange(coming))
        done(faces)
        assert told == [mmap.MADV_DONTNEED] * times
    assert {*bytes_of(0, 9)} <= set(covered(advised)), "what is let go is asked for again"


def test_a_request_is_as_long_as_the_disk_takes(file: Path) -> None:
    longest = mapped._longest_request(file)
    assert longest >= mapped.REQUEST_KIB << 10 and longest % 1024 == 0


def test_a_disk_of_which_nothing_is_told_gets_short_requests(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> str:
        raise PermissionError

    short = mapped.REQUEST_KIB << 10
    for told, longest in ((refused, short), (lambda _: "", short), (lambda _: "512\n", 512 << 10)):
        monkeypatch.setattr(Path, "read_text", told)
        assert mapped._longest_request(file) == longest


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
    assert window == Window(
        faces=2 * faces_of_a_mebibyte, chunk=4 * faces_of_a_mebibyte, face_bytes=64**2
    )


ROWS = np.array([0, 1, 2, 10, 11, 15, 22])


def test_a_piece_is_read_when_its_first_face_comes_and_not_again_for_a_while() -> None:
    window = Window(faces=8, chunk=5, face_bytes=GAP_BYTES)
    pieces = Pieces(ROWS, window, batch=2)  # 15 faces are 8 steps

    def entering(step: int, *shown: int) -> list[list[int]]:
        return pieces.entering(step, np.array(shown, np.int64)).tolist()

    assert entering(0, 15, 1) == [[0, 3], [15, 16]]
    assert entering(1, 2, 11) == [[10, 12]]
    assert entering(8, 0, 15) == [] == entering(9)
    assert entering(9, 0, 11) == [[0, 3]]
    assert entering(0, 0) == [[0, 3]], "a step long before is another walk"


def test_a_piece_leaves_when_the_window_has_passed_it() -> None:
    """And not where it came back meanwhile."""
    pieces = Pieces(ROWS, Window(faces=8, chunk=5, face_bytes=1), batch=2)
    pieces.entering(0, np.array([0, 15]))
    pieces.entering(3, np.array([22]))
    assert pieces.leaving(8).tolist() == []
    pieces.entering(9, np.array([2]))
    assert pieces.leaving(10).tolist() == [[15, 20]]
    assert pieces.leaving(12).tolist() == [[20, 25]]
    assert pieces.leaving(18).tolist() == [[0, 5]] and pieces.leaving(30).tolist() == []


def test_memory_keeps_the_first_rows_that_there_is_room_for_beside_the_window() -> None:
    rows = np.arange(0, 2000, 2)
    pieces = Pieces(rows, Window(faces=72, chunk=10, face_bytes=100), batch=8)  # 100 are held
    assert pieces.kept(0) == pieces.kept(100 * 100) == 0
    half = pieces.kept((500 + 0.5 * 100) * 100)
    assert half == 1000, "of what is kept, the window holds nothing besides"
    assert pieces.kept(10**9) == 1999


def test_what_lies_together() -> None:
    assert together(ROWS, 0).tolist() == [[0, 3], [10, 12], [15, 16], [22, 23]]
    assert together(ROWS, 3).tolist() == [[0, 3], [10, 16], [22, 23]]
    assert together(ROWS, 9, chunk=12).tolist() == [[0, 12], [15, 23]]

"""Every file of a hostile source is a face or a line of quarantine.csv, and costs little memory."""

import csv
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from data_service import corpora
from data_service.alignment.align import Aligner
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.rows import Recipe, RowMaker
from tests.corpora import hostile
from tests.corpora.pictures import face, write

MAX_EXTRA_MEGABYTES = 256


@pytest.fixture
def without_detector(monkeypatch):
    """No detector was made for drawn faces, and how a face is placed is no matter here."""
    monkeypatch.setattr(Aligner, "find", lambda self, image_HW3: ("centre", None))


def test_every_file_is_taken_or_told(tmp_path, without_detector):
    fates = hostile.build(tmp_path)
    report = ingest("folders", tmp_path / "source", tmp_path / "lake", image_size=96)
    lake = Lake.open(tmp_path / "lake")
    with open(tmp_path / "lake" / "quarantine.csv", newline="", encoding="utf-8") as table:
        told = {row["name"]: row["reason"] for row in csv.DictReader(table)}
    taken = lake.table["name"].to_pylist()
    assert dict.fromkeys(taken, hostile.TAKEN) | told == fates
    assert len(taken) + len(told) == len(fates) == report.faces + report.rejected
    assert not (tmp_path / "unpickled").exists()


def test_what_is_taken_shows_what_was_drawn(tmp_path, without_detector):
    hostile.build(tmp_path)
    ingest("folders", tmp_path / "source", tmp_path / "lake", image_size=96)
    lake = Lake.open(tmp_path / "lake")
    drawn_HW3 = hostile._picture().astype(int)
    exact = {"a png.txt", "pages.tif"}
    near = {"no suffix", "a jpeg.png", "cmyk.jpg", "progressive.jpg", "link.jpg"}
    for name, face_HW3 in zip(lake.table["name"].to_pylist(), lake.faces, strict=True):
        name = name.removeprefix("neutral/")
        if name == "turned.jpg":
            face_HW3 = np.rot90(face_HW3, -1)
        error = np.abs(face_HW3 - drawn_HW3).mean()
        assert name not in exact or error == 0
        assert name not in near | {"turned.jpg"} or error < 6
        if name.startswith("16 bit"):
            grey_HW = drawn_HW3 @ np.array([299, 587, 114]) / 1000
            assert np.abs(face_HW3 - grey_HW[..., None]).max() < 1


@contextmanager
def as_nobody():
    """Whoever runs the tests as root is nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_and_files_without_permission():
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        source.chmod(0o755)
        for name in ("happy/1.jpg", "happy/2.jpg", "sad/1.jpg", "fear/1.jpg"):
            write(source / name, face(0, hostile.Expression.FEAR))
        (source / "happy" / "2.jpg").chmod(0)
        (source / "sad").chmod(0)  # neither listed nor entered
        (source / "fear").chmod(0o444)  # listed, not entered
        maker = RowMaker(Recipe(corpus="folders", image_size=96, channels=3, aligned=True))
        with as_nobody():
            scan = corpora.scan("folders", source, {})
            rows, rejected = maker.rows(scan.faces)
        (source / "sad").chmod(0o755)
        (source / "fear").chmod(0o755)
    assert rows["name"].to_pylist() == ["happy/1.jpg"]
    assert {one.name: one.reason for one in (*scan.rejected, *rejected)} == {
        "happy/2.jpg": "file not readable",
        "sad": "folder not readable",
        "fear/1.jpg": "folder not readable",
    }


def test_a_corpus_that_cannot_be_listed_is_one_clear_line(monkeypatch, tmp_path):
    write(tmp_path / "VL" / "Strong" / "P001" / "Anger" / "1.jpeg", b"picture")

    def closed(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(ValueError, match="cannot be read: Permission denied") as caught:
        corpora.scan("oulu_casia", tmp_path, {})
    assert str(tmp_path) in str(caught.value)


WORKER = """
import resource, sys
from pathlib import Path
from data_service.rows import Recipe, RowMaker
from data_service.schema import SourceFace

def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def faces(*paths):
    return [
        SourceFace(name=path, subject=None, expression=None, path=Path(path)) for path in paths
    ]

maker = RowMaker(Recipe(corpus="folders", image_size=128, channels=3, aligned=False))
maker.rows(faces(sys.argv[1]))
before = peak_megabytes()
rows, rejected = maker.rows(faces(*sys.argv[2:]))
print(rows.num_rows, len(rejected), peak_megabytes() - before)
"""


@pytest.mark.slow
def test_no_file_costs_a_worker_more_than_256_megabytes(tmp_path):
    """Above what the worker holds after an ordinary picture, in a process of its own."""
    fates = hostile.build(tmp_path)
    ordinary = tmp_path / "ordinary.jpg"
    write(ordinary, np.tile(face(0, hostile.Expression.FEAR), (5, 6, 1)))
    largest = []
    for name, mode, size in (
        ("wide.bmp", "RGB", (4000, 4000)),
        ("wide.png", "RGBA", (4000, 4000)),
        ("long.jpg", "CMYK", (20_000, 800)),
    ):
        image = hostile.Image.linear_gradient("L").resize(size).convert(mode)
        image.save(tmp_path / name, **({"progressive": True} if name == "long.jpg" else {}))
        largest.append(str(tmp_path / name))
    files = [str(tmp_path / "source" / name) for name in fates if "\\" not in name]
    said = subprocess.run(
        [sys.executable, "-c", WORKER, str(ordinary), *files, *largest],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    rows, rejected, extra = int(said[0]), int(said[1]), float(said[2])
    assert rows + rejected == len(files) + len(largest) and rows >= len(largest)
    assert extra < MAX_EXTRA_MEGABYTES

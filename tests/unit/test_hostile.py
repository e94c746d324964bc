"""Every file of a hostile source is a face or a line of quarantine.csv, and costs little memory."""

import csv
import json
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
from data_service.corpora._tables import MAX_TABLE_BYTES
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.rows import Recipe, RowMaker
from tests.corpora import hostile, mmi, photos, tfd
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

    def closed(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ValueError, match="cannot be read: Permission denied") as caught:
        corpora.scan("oulu_casia", tmp_path, {})
    assert str(tmp_path) in str(caught.value)


WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from benchmarks.peak import peak_mib
from data_service import corpora
from data_service.rows import Recipe, RowMaker
from data_service.schema import SourceFace

def faces(paths):
    return [
        SourceFace(name=path, subject=None, expression=None, path=Path(path)) for path in paths
    ]

def made(corpus, listed):
    maker = RowMaker(Recipe(corpus=corpus, image_size=128, channels=3, aligned=False))
    rows, rejected = maker.rows(listed)
    return rows.num_rows, len(rejected)

def scanned(corpus, source):
    scan = corpora.scan(corpus, Path(source), {})
    rows, rejected = made(corpus, scan.faces)
    return rows, rejected + len(scan.rejected)

what, ordinary, *given = sys.argv[1:]
made("folders", faces([ordinary]))
before = peak_mib()
planted = np.ones(300 << 20, np.uint8) if what == "planted" else None
if what in ("planted", "folders"):
    counts = made("folders", faces(given))
else:
    counts = scanned(what, *given)
print(json.dumps([*counts, peak_mib() - before]))
"""


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory) -> Path:
    picture = np.tile(face(0, hostile.Expression.FEAR), (5, 6, 1))
    return write(tmp_path_factory.mktemp("ordinary") / "ordinary.jpg", picture)


def cost(what: str, ordinary: Path, *given: Path) -> tuple[int, int, float]:
    """Faces and refusals of files or of a source, and the megabytes that they cost a process of
    its own above what an ordinary picture costs it."""
    command = [sys.executable, "-c", WORKER, what, str(ordinary), *map(str, given)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows, rejected, extra = json.loads(said)
    return rows, rejected, extra


@pytest.mark.slow
def test_what_a_process_holds_is_seen(ordinary):
    held = np.ones(500 << 20, np.uint8)  # by this process: not to be taken for the other's
    assert held.any() and 295 < cost("planted", ordinary, ordinary)[2] < 320
    assert cost("folders", ordinary, ordinary)[2] < 50


@pytest.mark.slow
def test_no_picture_costs_a_worker_more_than_256_megabytes(tmp_path, ordinary):
    fates = hostile.build(tmp_path)
    largest = []
    for name, mode, size in (
        ("wide.bmp", "RGB", (4000, 4000)),
        ("wide.png", "RGBA", (4000, 4000)),
        ("long.jpg", "CMYK", (20_000, 800)),
    ):
        image = hostile.Image.linear_gradient("L").resize(size).convert(mode)
        image.save(tmp_path / name, **({"progressive": True} if name == "long.jpg" else {}))
        largest.append(tmp_path / name)
    files = [tmp_path / "source" / name for name in fates if "\\" not in name]
    rows, rejected, extra = cost("folders", ordinary, *files, *largest)
    assert rows + rejected == len(files) + len(largest) and rows >= len(largest)
    assert extra < MAX_EXTRA_MEGABYTES


@pytest.mark.slow
def test_no_video_costs_more_than_256_megabytes(tmp_path, ordinary):
    """The largest frames that are taken, and larger ones."""
    for number, height in ((1, 1600), (2, 3200)):
        folder = tmp_path / "Sessions" / str(number)
        path = mmi.session(folder, f"S001-{number:03d}", 1)
        mmi.film(path, [np.full((height, 2560, 3), shade, np.uint8) for shade in range(9)])
    rows, rejected, extra = cost("mmi", ordinary, tmp_path)
    assert (rows, rejected) == (3, 1) and extra < MAX_EXTRA_MEGABYTES


@pytest.mark.slow
def test_no_mat_file_costs_more_than_256_megabytes(tmp_path, ordinary):
    """As many faces as TFD has."""
    count, labelled = 112_234, 36
    arrays = {
        name: np.resize(array, (count, *array.shape[1:]))
        for name, array in tfd.arrays().items()
        if name != "images"
    }
    arrays["labs_ex"][labelled:] = -1
    images = np.broadcast_to(np.uint8(7), (count, 48, 48))
    tfd.save(tmp_path, {**arrays, "images": images})
    rows, rejected, extra = cost("tfd", ordinary, tmp_path)
    assert (rows, rejected) == (labelled, 0) and extra < MAX_EXTRA_MEGABYTES


@pytest.mark.slow
def test_no_table_costs_more_than_256_megabytes(tmp_path, ordinary):
    table = photos.build(tmp_path) / "labels.csv"
    with table.open("ab") as file:
        file.write(b"\n")
        for _ in range(126):
            file.write((b"," * 1023 + b"\n") * 1024)
    rows, rejected, extra = cost("photos", ordinary, tmp_path)
    assert (rows, rejected) == (15, 0) and extra < MAX_EXTRA_MEGABYTES
    with table.open("ab") as file:
        file.truncate(MAX_TABLE_BYTES + 1)
    with pytest.raises(ValueError, match=r"labels.csv: file too large"):
        corpora.scan("photos", tmp_path, {})

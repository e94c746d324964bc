"""Tables, labels, points, XML files and videos of a source are guarded as its pictures are.

Each is put in another's place: a pipe, a device, a link that leads out, and five gigabytes of
nothing. The scan ends soon, in little memory, and says which file and why.
"""

import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_service import corpora
from data_service.corpora._files import RefusedFileError, read_small
from data_service.corpora._tables import MAX_LINE_BYTES, plain_rows
from tests.corpora import (
    affectnet,
    celeba,
    cfee,
    ckplus,
    fer2013,
    ferplus,
    mmi,
    muxspace,
    photos,
    rafdb,
    tfd,
)
from tests.corpora.pictures import write

SIDES = {
    "affectnet": (affectnet.build, {}, ["*/training.csv"]),
    "affectnet second": (
        affectnet.build_second,
        {},
        ["train_set/annotations/0_exp.npy", "val_set/annotations/3_lnd.npy"],
    ),
    "celeba": (celeba.build, {}, ["Anno/list_attr_celeba.txt", "Anno/identity_CelebA.txt"]),
    "cfee": (cfee.build, {}, ["index.csv"]),
    "ckplus": (ckplus.build, {}, ["*_labels/*/S000/001/*.txt", "Landmarks/S000/001/*.txt"]),
    "fer2013": (fer2013.build, {}, ["*/fer2013.csv"]),
    "fer2013 challenge": (fer2013.build_challenge, {}, ["train.csv", "test.csv"]),
    "ferplus": (ferplus.build, {}, ["*/fer2013new.csv"]),
    "ferplus generated": (ferplus.build_generated, {}, ["FER2013Train/label.csv"]),
    "folders": (photos.build, {"table": "labels.csv"}, ["labels.csv"]),
    "mmi": (
        mmi.build,
        {},
        ["*/*/1768/session.xml", "*/*/1768/S000-001.xml", "*/*/1768/S000-001.avi"],
    ),
    "muxspace": (muxspace.build, {}, ["data/legend.csv"]),
    "photos": (photos.build, {}, ["labels.csv"]),
    "rafdb": (
        rafdb.build,
        {"images": "original"},
        ["*/EmoLabel/*.txt", "*/*/manual/train_00002_*.txt"],
    ),
    "tfd": (tfd.build, {}, ["*.mat"]),
}
KINDS = ("pipe", "device", "outside", "sparse")
REASONS = {
    "pipe": "file not readable",
    "device": "path outside the source",
    "outside": "path outside the source",
    "sparse": "",
}
BUILT: dict[str, Path] = {}


@contextmanager
def bounded(megabytes: int = 400):
    """No more memory for this process than it has, and so much."""
    kept = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, kept)


@contextmanager
def replaced(side: Path, kind: str, outside: Path):
    """Something else in a file's place; `outside` is a whole copy of it."""
    kept = side.with_name(".kept")
    shutil.copyfile(side, outside)
    side.rename(kept)
    try:
        if kind == "pipe":
            os.mkfifo(side)
        elif kind == "sparse":
            with open(side, "wb") as file:
                file.truncate(5 << 30)
        else:
            side.symlink_to(outside if kind == "outside" else "/dev/zero")
        yield
    finally:
        side.unlink()
        kept.rename(side)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    def tree(name: str) -> Path:
        if name not in BUILT:
            BUILT[name] = SIDES[name][0](tmp_path_factory.mktemp(name))
            if name == "ckplus":
                for stem in (f"S000_001_{frame:08d}" for frame in (1, 2, 4, 5, 6)):
                    write(BUILT[name] / f"Landmarks/S000/001/{stem}_landmarks.txt", "1 2\n")
        return BUILT[name]

    yield tree
    BUILT.clear()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "pattern"), [(name, one) for name, (*_, sides) in SIDES.items() for one in sides]
)
def test_a_side_file_that_is_none(name, pattern, kind, trees, tmp_path):
    corpus, options, source = name.split()[0], SIDES[name][1], trees(name)
    side = min(source.glob(pattern))
    before = told_by(corpora.scan(corpus, source, options))
    with replaced(side, kind, tmp_path / "outside"), bounded():
        try:
            told = told_by(corpora.scan(corpus, source, options)) - before
        except ValueError as error:
            told = {str(error)}
    assert told and all("\n" not in one for one in told)
    own = [one for one in told if side.name in one or f"/{side.parent.name}:" in one]
    assert any(REASONS[kind] in one for one in own)


def told_by(scan) -> set[str]:
    return {f"{one.name}: {one.reason} {one.detail}" for one in scan.rejected}


def test_a_small_file_is_read_whole_or_not_at_all(tmp_path):
    path = write(tmp_path / "source" / "a.txt", b"12345")
    (path.parent / "link.txt").symlink_to(path)
    for name in ("a.txt", "link.txt"):
        assert read_small(path.parent, path.with_name(name), 5) == b"12345"
    with pytest.raises(RefusedFileError, match=r"a.txt: file too large \(at most 4 bytes\); valid"):
        read_small(path.parent, path, 4)
    with pytest.raises(RefusedFileError, match="file missing"):
        read_small(path.parent, path.with_name("b.txt"), 5)
    with pytest.raises(RefusedFileError, match="path outside the source"):
        read_small(write(tmp_path / "other" / "b.txt", b"").parent, path, 5)


def test_lines_of_a_large_table_are_bounded(tmp_path):
    path = write(tmp_path / "a.csv", b"a,b\n\n1, 2 \n" + b"x" * MAX_LINE_BYTES)
    rows = plain_rows(tmp_path, path)
    assert [next(rows), next(rows)] == [(1, ["a", "b"]), (3, ["1", "2"])]
    with pytest.raises(ValueError, match=r"a.csv, line 4: longer than"):
        next(rows)
    write(path, 'a,"b\nc",d\n')
    with pytest.raises(ValueError, match=r"a.csv, line 1: unexpected end of data"):
        list(plain_rows(tmp_path, path))


def test_a_byte_order_mark_is_no_part_of_a_large_table(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffa,b\n\ufeffc,d\n".encode())
    assert [cells[1] for _, cells in plain_rows(tmp_path, path)] == ["b", "d"]
    assert next(plain_rows(tmp_path, path)) == (1, ["a", "b"])


def test_a_document_type_is_refused_in_any_encoding(tmp_path):
    text = '<?xml version="1.0" encoding="{}"?>{}<a><Metatag Name="Emotion" Value="1"/></a>'
    for encoding in ("utf-8", "utf-16", "iso-8859-1", "us-ascii"):
        for doctype, reason in (("<!DOCTYPE a>", "damaged XML file"), ("", "")):
            path = mmi.session(tmp_path / encoding / "Sessions" / "1", "S001-001", 1)
            write(path.with_suffix(".xml"), text.format(encoding, doctype).encode(encoding))
            scan = corpora.scan("mmi", tmp_path / encoding, {})
            assert [one.reason for one in scan.rejected] == [reason] * bool(reason)
            assert bool(scan.faces) is not bool(reason)

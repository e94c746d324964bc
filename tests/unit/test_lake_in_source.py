"""A lake that lies in its source is no part of it: who ingests again gets the same lake."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

from data_service import corpora
from data_service.alignment.align import Aligner
from data_service.corpora._walk import holds_lakes
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import PARTS
from data_service.schema import Scan
from tests.corpora import photos
from tests.corpora.pictures import write

SIDE = 32
FACES = "faces-00000-0123abcd.parquet"


@pytest.fixture(autouse=True)
def no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Aligner, "find", lambda self, image_HW3: ("centre", None))


def listed(corpus: str, source: Path) -> Scan:
    return corpora.scan(corpus, source, {})


def laid_down(source: Path) -> None:
    """Lakes as they lie there: a whole one, one of an ingest that was killed, one in a folder."""
    lakes = {
        "whole": (FACES, "manifest.json", "quarantine.csv", "audit.json"),
        "killed": (f"{PARTS}/work/000000-00000000.arrow", ".lock", FACES),
        "of/two": (FACES, "manifest.json"),
        "begun": (f"{PARTS}/work/000000-00000000.arrow",),
    }
    for place, files in lakes.items():
        for name in files:
            write(source / place / name, b"")


@pytest.mark.parametrize("corpus", ["photos", "folders"])
def test_a_repeated_ingest_ends_with_the_same_lake(corpus: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"tests.corpora.{corpus}")
    source = module.build(tmp_path / "source")
    lakes = [source / "lake", source / "lakes" / "other"]
    first = [ingest(corpus, source, lake, image_size=SIDE).as_json() for lake in lakes]
    manifests = [Lake.open(lake).manifest for lake in lakes]
    assert manifests[0] == manifests[1]
    again = [ingest(corpus, source, lake, image_size=SIDE).as_json() for lake in lakes]
    assert [Lake.open(lake).manifest for lake in lakes] == manifests
    for name in ("faces", "rejected", "by_reason", "found"):
        assert [one[name] for one in again] == [one[name] for one in first]


@pytest.mark.parametrize(
    "corpus", ["casia_webface", "ckplus", "fedro", "fer2013", "folders", "kdef", "oulu_casia"]
)
def test_no_corpus_lists_the_lakes_in_its_source(corpus: str, tmp_path: Path) -> None:
    source = importlib.import_module(f"tests.corpora.{corpus}").build(tmp_path / "source")
    source = source if source.is_dir() else source.parent
    before = listed(corpus, source)
    laid_down(source)
    assert listed(corpus, source) == before


def test_what_is_no_lake_is_told(tmp_path: Path) -> None:
    source = photos.build(tmp_path / "source")
    laid_down(source)
    write(source / "whole" / "notes.txt", "mine")
    write(source / "tables" / "manifest.json", "{}")
    (source / "link").symlink_to(source / "killed")
    told = {one.name for one in listed("photos", source).rejected}
    assert {"whole/notes.txt", f"whole/{FACES}", "tables/manifest.json", "link"} <= told
    assert not any(name.startswith(("killed", "of", "begun")) for name in told)


def test_a_folder_of_lakes_and_nothing_else_holds_lakes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    laid_down(tmp_path / "several")
    write(tmp_path / "mixed" / "1.jpg", b"")
    shutil.copytree(tmp_path / "several" / "whole", tmp_path / "mixed" / "lake")
    found = {path.name for path in tmp_path.iterdir() if holds_lakes(path)}
    assert found == {"several"}
    assert not holds_lakes(tmp_path / "nowhere") and not holds_lakes(tmp_path)


def test_a_lake_is_not_its_source(tmp_path: Path) -> None:
    source = photos.build(tmp_path / "source")
    before = sorted(source.rglob("*"))
    with pytest.raises(ValueError, match="source is its source; valid: another folder, in it or "):
        ingest("photos", source, source / ".." / "source", image_size=SIDE)
    assert sorted(source.rglob("*")) == before


@pytest.mark.parametrize("below", ["", "lake"])
def test_a_lake_is_no_file(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "file", b"precious")
    monkeypatch.setattr("data_service.ingest.corpora.scan", pytest.fail)
    with pytest.raises(ValueError, match=r"no lake can be at .*: .*/file is no folder; "):
        ingest("drawn", None, file / below, image_size=SIDE)
    assert file.read_bytes() == b"precious"


def test_a_lake_that_did_not_come_to_be_leaves_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "happy" / "1.jpg", b"no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"folders has no usable face in .*; 1 not an image"):
            ingest("folders", tmp_path, tmp_path / "lake", image_size=SIDE)
        assert not (tmp_path / "lake").exists()

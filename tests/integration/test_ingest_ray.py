"""An ingest on Ray makes the lake that this process makes, bit for bit."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from PIL import Image

from cluster.session import connect
from data_service.corpora import drawn
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.rows import Recipe
from data_service.schema import Rejection, face_schema

pytestmark = pytest.mark.xdist_group("ingest on Ray")


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """Sixty drawn faces as photographs and two files that are none."""
    folder = tmp_path_factory.mktemp("album")
    scan = drawn.scan(None, subjects=10, faces_per_subject=6, size=160)
    lines = ["file,subject,expression", "text.jpg,s,fear", "gone.jpg,s,fear"]
    (folder / "text.jpg").write_bytes(b"no picture")
    for index, (face, picture) in enumerate(zip(scan.faces, drawn.images(scan.faces), strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG")
        (folder / f"{index}.jpg").write_bytes(buffer.getvalue())
        lines.append(f"{index}.jpg,{face.subject},{face.expression}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def two_cpus(tmp_path_factory) -> Iterator[None]:
    with connect(num_cpus=2, log_file=tmp_path_factory.mktemp("logs") / "ray.log"):
        yield


def same(one: Lake, other: Lake) -> None:
    assert one.manifest.hash == other.manifest.hash
    assert one.table.equals(other.table)
    np.testing.assert_array_equal(one.faces, other.faces)


def test_job_and_process_make_the_same_lake(album, two_cpus, tmp_path, monkeypatch, capfd):
    calls = []
    job = ingest(
        "photos",
        album,
        tmp_path / "job",
        image_size=96,
        workers=2,
        progress=lambda *call: calls.append(call),
    )
    assert calls[-1] == (61, 61)
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    alone = ingest("photos", album, tmp_path / "alone", image_size=96)
    same(Lake.open(tmp_path / "job"), Lake.open(tmp_path / "alone"))
    assert job.by_reason == alone.by_reason == {"file missing": 1, "not an image": 1}
    assert job.by_alignment == alone.by_alignment


def test_one_process_draws_what_this_process_draws(two_cpus, tmp_path, monkeypatch):
    options = {"subjects": 3, "faces_per_subject": 16}
    settings = {"image_size": 48, "channels": 1, "options": options}
    ingest("drawn", None, tmp_path / "job", workers=1, **settings)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    ingest("drawn", None, tmp_path / "alone", **settings)
    same(Lake.open(tmp_path / "job"), Lake.open(tmp_path / "alone"))


def test_more_processes_than_cpus_are_no_fault(album, two_cpus, tmp_path):
    report = ingest("photos", album, tmp_path / "lake", image_size=96, workers=3)
    assert report.faces == 60


def test_what_a_killed_process_had_to_do_is_done_anew(two_cpus, tmp_path, monkeypatch):
    options = {"subjects": 12, "faces_per_subject": 16}
    settings = {"image_size": 64, "options": options}
    killed = []

    def kill(done: int, total: int) -> None:
        if not killed:
            killed.append(next(process for process in psutil.process_iter() if makes_rows(process)))
            killed[0].kill()

    ingest("drawn", None, tmp_path / "job", progress=kill, **settings)
    assert killed
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    ingest("drawn", None, tmp_path / "alone", **settings)
    same(Lake.open(tmp_path / "job"), Lake.open(tmp_path / "alone"))


def test_faces_that_kill_their_process_are_named(two_cpus, tmp_path, monkeypatch):
    def deadly(recipe: Recipe, blocks: list) -> list:
        os._exit(1)

    monkeypatch.setattr("data_service.ingest_blocks.made_rows", deadly)
    monkeypatch.setattr("data_service.ingest_blocks.MAX_RETRIES", 1)
    with pytest.raises(RuntimeError, match=r"reads faces \S+ to \S+ ended 2 times"):
        ingest("drawn", None, tmp_path / "lake", image_size=48, options={"subjects": 2})


def test_a_source_that_not_every_machine_sees_loses_no_face(album, two_cpus, tmp_path, monkeypatch):
    def blind(recipe: Recipe, blocks: list) -> list:  # what is said where the folder is not there
        gone = {"reason": "file missing", "detail": ""}
        schema = face_schema(96, 3)
        return [
            (number, schema.empty_table(), [Rejection(name=one.name, **gone) for one in faces])
            for number, faces in blocks
        ]

    monkeypatch.setattr("data_service.ingest_blocks.made_rows", blind)
    with pytest.raises(ValueError, match="is here, but not on every machine of the cluster"):
        ingest("photos", album, tmp_path / "lake", image_size=96)
    monkeypatch.undo()
    assert ingest("photos", album, tmp_path / "lake", image_size=96).faces == 60


def makes_rows(process: psutil.Process) -> bool:
    try:
        return "".join(process.cmdline()).startswith("ray::made_rows")
    except psutil.Error:
        return False

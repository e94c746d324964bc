"""The Ray Data job makes the lake that this process makes, bit for bit."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.data
from PIL import Image

from cluster.session import connect
from data_service.corpora import drawn
from data_service.ingest import ingest
from data_service.lakes.lake import Lake

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
    # as many actors as CPUs: nothing else of the job may need one
    job = ingest(
        "photos",
        album,
        tmp_path / "job",
        image_size=96,
        workers=2,
        progress=lambda *call: calls.append(call),
    )
    assert ray.data.DataContext.get_current().print_on_execution_start
    assert calls[-1] == (61, 61)
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    alone = ingest("photos", album, tmp_path / "alone", image_size=96)
    same(Lake.open(tmp_path / "job"), Lake.open(tmp_path / "alone"))
    assert job.by_reason == alone.by_reason == {"file missing": 1, "not an image": 1}
    assert job.by_alignment == alone.by_alignment


def test_one_actor_draws_what_this_process_draws(two_cpus, tmp_path, monkeypatch):
    options = {"subjects": 3, "faces_per_subject": 16}
    settings = {"image_size": 48, "channels": 1, "options": options}
    ingest("drawn", None, tmp_path / "job", workers=1, **settings)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    ingest("drawn", None, tmp_path / "alone", **settings)
    same(Lake.open(tmp_path / "job"), Lake.open(tmp_path / "alone"))

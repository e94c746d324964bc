"""From listed files to a lake in this process: what goes in comes out, what fails has a reason."""

import csv
import io
import json
import shutil
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_service import corpora, ingest_blocks
from data_service.alignment.align import TEMPLATE_52, five_points
from data_service.alignment.decode import decode, grey
from data_service.audit import audited
from data_service.corpora import drawn
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.rows import Recipe, perceptual_hash, thumbnail
from data_service.schema import SourceFace


def as_jpeg(picture_HW3: np.ndarray, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture_HW3).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """Twenty drawn faces as photographs, and five files that are none."""
    folder = tmp_path_factory.mktemp("album")
    scan = drawn.scan(None, subjects=5, faces_per_subject=4, size=160)
    lines = ["file,subject,expression"]
    for index, (face, picture) in enumerate(zip(scan.faces, drawn.images(scan.faces), strict=True)):
        (folder / f"{index:02d}.jpg").write_bytes(as_jpeg(picture))
        lines.append(f"{index:02d}.jpg,{face.subject},{face.expression}")
    whole = (folder / "00.jpg").read_bytes()
    bad = {"half.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.jpg": b"a picture? no"}
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    lines += [f"{name},s,fear" for name in (*bad, "gone.jpg", "../outside.jpg")]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def made(album, tmp_path_factory):
    """The album as a lake in colour, 96 px, and the report."""
    path = tmp_path_factory.mktemp("lakes") / "colour"
    calls = []
    report = ingest("photos", album, path, image_size=96, progress=lambda *call: calls.append(call))
    return Lake.open(path), report, calls


def test_what_can_be_read_is_in_the_lake(album, made):
    lake, report, calls = made
    assert len(lake) == report.faces == 20
    assert lake.faces.shape == (20, 96, 96, 3)
    assert lake.table["name"].to_pylist() == [f"{index:02d}.jpg" for index in range(20)]
    assert set(lake.table["corpus"].to_pylist()) == {"photos"}
    assert len(set(lake.table["sample_id"].to_pylist())) == 20
    assert report.by_class == {str(one): n for one, n in sorted(_classes(album).items())}
    assert calls[-1] == (23, 23)


def _classes(album: Path) -> dict[str, int]:
    with open(album / "labels.csv", newline="") as table:
        labels = [row["expression"] for row in csv.DictReader(table) if row["file"][0].isdigit()]
    return {label: labels.count(label) for label in labels}


def test_the_audit_of_faces_as_they_are_written_is_that_of_the_files(made, tmp_path):
    lake, _, _ = made
    written = (lake.path / "audit.json").read_bytes()
    shutil.copytree(lake.path, tmp_path / "lake")
    (tmp_path / "lake" / "audit.json").unlink()
    audited(Lake.open(tmp_path / "lake"))
    assert (tmp_path / "lake" / "audit.json").read_bytes() == written
    assert json.loads(written)["faces"] == 20


def test_what_cannot_be_read_has_its_reason(made):
    lake, report, _ = made
    assert report.rejected == 5
    assert report.by_reason == {
        "damaged image": 1,
        "empty file": 1,
        "file missing": 1,
        "not an image": 1,
        "path outside the source": 1,
    }
    assert lake.manifest.rejected == report.by_reason


def test_found_points_stand_where_the_template_says(made):
    lake, report, _ = made
    assert set(report.by_alignment) <= {"detector", "fallback", "centre"}
    found = report.by_alignment.get("detector", 0)
    assert report.found_share == found / 20
    for row in lake.table.to_pylist():
        if row["alignment"] == "detector":
            landmarks_53 = np.reshape(row["landmarks"], (5, 3))
            assert np.abs(landmarks_53[:, :2] - TEMPLATE_52 * 96).max() < 0.1 * 96
            assert landmarks_53[:, 2] == pytest.approx(row["confidence"])
        if row["alignment"] == "centre":
            assert row["landmarks"] is None and row["confidence"] == 0


def test_report_is_plain_json(made):
    _, report, _ = made
    told = json.loads(json.dumps(report.as_json()))
    assert told["faces"] == 20 and told["rejected"] == 5
    assert told["by_class"] == dict(report.by_class)
    assert told["faces_per_second"] > 0


def test_grey_lake_is_the_luma_of_the_colour_lake(album, made, tmp_path):
    colour, _, _ = made
    ingest("photos", album, tmp_path / "lake", image_size=96, channels=1)
    lake = Lake.open(tmp_path / "lake")
    assert lake.faces.shape == (20, 96, 96, 1)
    for one, other in zip(lake.faces, colour.faces, strict=True):
        np.testing.assert_array_equal(one, grey(other))
    assert lake.table["perceptual_hash"].equals(colour.table["perceptual_hash"])


@pytest.mark.parametrize("chunk_faces", [1, 7, 100])
def test_lake_does_not_depend_on_the_grouping(album, made, tmp_path, monkeypatch, chunk_faces):
    monkeypatch.setattr(ingest_blocks, "CHUNK_FACES", chunk_faces)
    ingest("photos", album, tmp_path / "lake", image_size=96)
    assert Lake.open(tmp_path / "lake").manifest.hash == made[0].manifest.hash


@pytest.mark.parametrize(("bound", "most"), [(0, 0), (3, 2), (100, 20)])
def test_pictures_are_held_up_to_a_bound_which_changes_no_face(
    album, made, tmp_path, monkeypatch, bound, most
):
    held, pictures = [], []

    def decoded(content: bytes) -> np.ndarray:
        held.append(sum(picture() is not None for picture in pictures))
        picture = decode(content)
        pictures.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr("data_service.rows.TOGETHER_BYTES", bound * 160 * 160 * 3)
    monkeypatch.setattr("data_service.rows.decode", decoded)
    ingest("photos", album, tmp_path / "lake", image_size=96)
    assert max(held) == most  # when one more is decoded
    assert Lake.open(tmp_path / "lake").manifest == made[0].manifest


@pytest.mark.parametrize(
    ("most", "sizes"), [(1000, [50, 10]), (50, [50, 10]), (25, [25, 25, 10]), (4, [10] * 6)]
)
def test_frames_of_a_video_stay_together_up_to_a_bound(most, sizes):
    frames = [
        SourceFace(
            name=f"{video}#{frame}", subject=None, expression=None, path=Path(video), sequence=video
        )
        for video, count in (("a.avi", 50), ("b.avi", 10))
        for frame in range(count)
    ]
    chunks = ingest_blocks._chunks(frames, 10, most)
    assert [len(chunk) for chunk in chunks] == sizes
    assert [face for chunk in chunks for face in chunk] == frames


@pytest.mark.parametrize("at_once", [1, 4, 50])
def test_tasks_hold_every_block_once_and_grow_smaller_at_the_end(at_once):
    faces = drawn.scan(None, subjects=20, faces_per_subject=50, size=64).faces
    blocks = dict(enumerate(ingest_blocks._chunks(faces, 10, 1000)))
    recipe = Recipe(corpus="drawn", image_size=64, channels=3, aligned=False)
    tasks = list(ingest_blocks._tasks(recipe, blocks, at_once))
    assert [number for task in tasks for number, _ in task] == list(range(100))
    sizes = [len(task) for task in tasks]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1
    assert max(sizes) == max(1, min(ingest_blocks.TASK_BLOCKS, 100 // (2 * at_once)))


def test_drawn_faces_keep_their_landmarks_and_numbers(tmp_path):
    options = {"subjects": 2, "faces_per_subject": 9}
    report = ingest("drawn", None, tmp_path / "lake", image_size=64, options=options)
    assert report.found_share == 1.0 and report.by_alignment == {"corpus": 18}
    lake = Lake.open(tmp_path / "lake")
    rows = lake.table.to_pylist(maps_as_pydicts="strict")
    scan = corpora.scan("drawn", None, options, image_size=64)
    listed = {face.name: face for face in scan.faces}
    for row in rows:
        face = listed[row["name"]]
        landmarks_L3 = np.reshape(row["landmarks"], (68, 3))
        assert np.abs(five_points(landmarks_L3) - TEMPLATE_52 * 64).max() < 0.1 * 64
        assert row["intensity"] == pytest.approx(face.intensity)
        assert row["attributes"] == pytest.approx(dict(face.attributes))
        assert row["subject"] == face.subject and row["expression"] == face.expression


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 8}, "image size 8; valid: 16 to 1024"),
        ({"channels": 2}, "2 channels; valid: 1"),
        ({"workers": 0}, "0 workers; valid: 1 or more"),
        ({"options": {"light": "Weak"}}, "option 'light' of corpus photos; it has none"),
    ],
)
def test_wrong_settings_are_one_clear_line(album, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        ingest("photos", album, tmp_path / "lake", **settings)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("file", "reason"), [("gone.jpg", "1 file missing"), ("empty.jpg", "1 empty file")]
)
def test_a_source_without_a_usable_face_is_an_error_that_says_why(tmp_path, file, reason):
    (tmp_path / "labels.csv").write_text(f"file,subject,expression\n{file},s,fear\n")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=f"photos has no usable face in .*; {reason}"):
        ingest("photos", tmp_path, tmp_path / "lake")
    with pytest.raises(ValueError):
        Lake.open(tmp_path / "lake")


@pytest.mark.parametrize("shape", [(256, 256), (250, 333), (30, 1000), (24, 24)])
def test_the_small_whole_picture_is_the_mean_over_its_parts(shape):
    (face,) = drawn.scan(None, subjects=1, faces_per_subject=1, size=128).faces
    (picture,) = drawn.images([face])
    picture = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_CUBIC)
    small = thumbnail(picture)
    assert small.shape == (24, 24)
    means = cv2.resize(grey(picture)[..., 0], (24, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - means).mean() < 2


def test_perceptual_hash_knows_a_copy_from_another_face():
    faces = drawn.scan(None, subjects=6, faces_per_subject=1, size=128).faces
    pictures = drawn.images(faces)
    hashes = [perceptual_hash(grey(picture)) for picture in pictures]
    for index, picture in enumerate(pictures):
        with Image.open(io.BytesIO(as_jpeg(picture, quality=60))) as copy:
            again = perceptual_hash(grey(np.array(copy)))
        assert (again ^ hashes[index]).bit_count() <= 6
        others = [one for at, one in enumerate(hashes) if at != index]
        assert min((one ^ hashes[index]).bit_count() for one in others) >= 10

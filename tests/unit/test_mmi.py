"""MMI: sessions by what their XML files tell, the middle of each video, the view of the camera."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_service import corpora
from data_service.alignment import video
from data_service.alignment.align import VIEWS, Aligner, off_upright
from data_service.alignment.detect import Detection
from data_service.corpora import mmi
from data_service.ingest_blocks import _chunks
from data_service.rows import Recipe, RowMaker
from tests.corpora import mmi as tree
from tests.corpora.pictures import write


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tree.build(tmp_path_factory.mktemp("mmi"))


def test_the_middle_of_each_video_is_its_apex(source):
    scan = corpora.scan("mmi", source, {})
    assert len(scan.faces) == 30
    first = scan.faces[0]
    assert (first.subject, first.sequence, str(first.expression)) == (
        "S000",
        "1767/S000-000",
        "anger",
    )
    assert [face.frame for face in scan.faces[:3]] == [3, 4, 5]
    assert first.name.endswith("Sessions/1767/S000-000.avi#00003")
    found = corpora.counts(scan.faces)
    assert found["sequences"] == 10 and found["subjects"] == 5
    assert sum(n for key, n in mmi.EXPECTED.items() if key.startswith("sequences/")) == 208


def test_sessions_of_no_use_have_their_reasons(source):
    rejected = {Path(one.name).name: one.reason for one in mmi.scan(source).rejected}
    assert rejected == {**tree.REFUSED, "1767": "session twice"}
    details = {Path(one.name).name: one.detail for one in mmi.scan(source).rejected}
    assert details["1792"] == "code 8" and details["1793"].endswith("of 9 frames")


def test_the_view_of_the_camera_goes_with_the_face(source):
    views = {face.sequence: tuple(face.options["views"]) for face in mmi.scan(source).faces}
    assert Counter(views.values()) == {
        ("whole", "clockwise", "anticlockwise"): 8,
        ("left", "right"): 2,
    }


def test_options(source):
    assert len(mmi.scan(source, frames=1).faces) == 10
    assert len(mmi.scan(source, frames=99).faces) == 30  # never more than the middle third
    neutral = mmi.scan(source, neutral=True).faces[:4]
    assert [(face.frame, str(face.expression)) for face in neutral[:2]] == [
        (0, "neutral"),
        (3, "anger"),
    ]
    clip = mmi.scan(source, frames=1, clips=True).faces[: tree.FRAMES]
    assert [face.frame for face in clip] == list(range(9))
    assert [face.expression is None for face in clip] == [True] * 4 + [False] + [True] * 4
    stills = [face for face in mmi.scan(source, stills=True).faces if face.sequence is None]
    assert [Path(face.name).name for face in stills] == ["S001-094.jpg"]
    with pytest.raises(ValueError, match="0 frames of each sequence"):
        mmi.scan(source, frames=0)


def test_each_video_is_decoded_once(source, monkeypatch):
    opened = []
    read = video.read_frames
    monkeypatch.setattr(video, "read_frames", lambda *told: opened.append(told[0]) or read(*told))
    monkeypatch.setattr(Aligner, "upright", lambda self, image_HW3, views: image_HW3)
    monkeypatch.setattr(Aligner, "find", lambda self, image_HW3: ("centre", None))
    maker = RowMaker(Recipe(corpus="mmi", image_size=32, channels=3, aligned=False))
    faces = mmi.scan(source, clips=True, stills=True).faces
    tables = [maker.rows(chunk) for chunk in _chunks(faces, 16, 1000)]
    assert sum(table.num_rows for table, _ in tables) == len(faces) == 10 * tree.FRAMES + 1
    assert not any(rejected for _, rejected in tables)
    assert len(opened) == len(set(opened)) == 10


def test_a_frame_that_cannot_be_read_leaves_the_others(source):
    face = mmi.scan(source).faces[0]
    maker = RowMaker(Recipe(corpus="mmi", image_size=32, channels=3, aligned=True))
    later = [replace(face, name=str(number), frame=number, options={}) for number in (3, 70)]
    table, rejected = maker.rows(later)
    assert table["name"].to_pylist() == ["3"]
    assert [(one.name, one.reason) for one in rejected] == [("70", "video ends early")]


def test_the_most_upright_frontal_view_is_taken(monkeypatch):
    """A detector that sees a bright square, and its points turned as the picture is."""
    upright_52 = np.array([(30, 30), (60, 30), (45, 45), (33, 60), (57, 60.0)])
    turned_52 = np.stack([90 - upright_52[:, 1], upright_52[:, 0]], axis=1)
    side_52 = upright_52 * [0.4, 1.0] + [30, 0]
    assert off_upright(upright_52) < 0.03
    assert off_upright(upright_52 * 3 + 7) == pytest.approx(off_upright(upright_52))
    assert off_upright(turned_52) > 0.1 and off_upright(side_52) > 0.05
    seen = {"whole": turned_52, "clockwise": upright_52, "anticlockwise": None}
    shades = dict(zip(seen, (10, 20, 30), strict=True))
    for name, shade in shades.items():
        monkeypatch.setitem(VIEWS, name, lambda image, shade=shade: np.full((90, 90, 3), shade))

    def detect(image_HW3, min_face_pixels):
        points = seen[next(name for name, shade in shades.items() if shade == image_HW3[0, 0, 0])]
        box_4 = np.array([0.0, 0, 90, 90])
        return [] if points is None else [Detection(box_4=box_4, probability=1.0, points_52=points)]

    aligner = Aligner.__new__(Aligner)
    aligner._detector = type("Detector", (), {"detect": staticmethod(detect)})()
    image = np.zeros((90, 90, 3), np.uint8)
    assert aligner.upright(image, ("whole", "clockwise", "anticlockwise"))[0, 0, 0] == 20
    assert aligner.upright(image, ("anticlockwise",))[0, 0, 0] == 30


def test_turns_and_halves():
    image_HW3 = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(VIEWS["clockwise"](image_HW3)[0], image_HW3[::-1, 0])
    np.testing.assert_array_equal(VIEWS["anticlockwise"](image_HW3)[-1], image_HW3[:, 0])
    halves = [VIEWS["left"](image_HW3), VIEWS["right"](image_HW3)]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), image_HW3)


def test_a_code_without_end_is_outside_the_six(tmp_path):
    path = tree.session(tmp_path / "Sessions" / "1", "S001-001", 1)
    write(path.with_suffix(".xml"), f'<a><Metatag Name="Emotion" Value="{"1" * 5000}"/></a>')
    write(tmp_path / "Sessions" / "list.txt", "")
    told = [(one.name, one.reason) for one in mmi.scan(tmp_path).rejected]
    assert told == [
        ("Sessions/list.txt", "in no folder of a session"),
        ("Sessions/1", "emotion outside the six"),
    ]


def test_each_code_has_its_expression(tmp_path):
    for code in mmi.CODES:
        tree.session(tmp_path / "Sessions" / str(1767 + code), f"S001-{code:03d}", code)
    found = [str(face.expression) for face in mmi.scan(tmp_path, frames=1).faces]
    assert found == ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]

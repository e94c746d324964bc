"""The general corpora: class folders by any pattern, tables with any columns."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_service import corpora
from data_service.corpora import fedro, folders
from data_service.corpora._walk import files_below, name_pattern
from data_service.schema import Rejection
from tests.corpora import fedro as fedro_tree
from tests.corpora import folders as tree
from tests.corpora.pictures import write


def told(scan):
    return [(face.name, face.subject, str(face.expression), face.split) for face in scan.faces]


def reasons(scan):
    return {one.name: one.reason for one in scan.rejected}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tree.build(tmp_path_factory.mktemp("folders"))


def test_parts_and_expressions_are_found_by_their_names(source):
    scan = corpora.scan("folders", source, {})
    assert corpora.counts(scan.faces) == {
        "faces": 37,
        "faces/happiness": 13,
        "faces/neutral": 12,
        "faces/sadness": 12,
        "split/test": 12,
        "split/train": 25,
    }
    names = [face.name for face in scan.faces]
    assert "Train/Happy/émile 0.jpg" in names and "test/sad/b 8.PNG" in names
    assert "Train/Happy/Thumbs.db" in names  # its content tells later that it is no picture
    assert reasons(scan) == {"README.txt": "name not of the corpus"}


def test_class_folders_alone(source):
    scan = folders.scan(source / "test")
    assert len(scan.faces) == 12 and {face.split for face in scan.faces} == {None}


def test_a_pattern_tells_subject_sequence_and_frame(tmp_path):
    for name in (
        "s1/joy/take 2/0007.png",
        "s1/rage/take 2/0001.png",
        "s1/joy/x.png",
        "s1/joy/a/b/3",
    ):
        write(tmp_path / name, b"picture")
    options = {
        "pattern": "{subject}/{expression}/{sequence}/{frame}",
        "labels": "joy:happiness, rage:-",
    }
    scan = corpora.scan("folders", tmp_path, options)
    face = scan.faces[0]
    assert told(scan) == [("s1/joy/take 2/0007.png", "s1", "happiness", None)]
    assert (face.sequence, face.frame) == ("take 2", 7)
    assert reasons(scan) == {
        "s1/joy/a/b/3": "name not of the corpus",
        "s1/joy/x.png": "name not of the corpus",
        "s1/rage/take 2/0001.png": "left out by labels",
    }


def write_names(root: Path) -> None:
    for name in ("anna_happy_01.jpg", "bob_sad_02.jpg"):
        write(root / name, b"picture")


def test_a_pattern_of_file_names(tmp_path):
    write_names(tmp_path)
    scan = folders.scan(tmp_path, pattern="{subject}_{expression}_*")
    assert told(scan) == [
        ("anna_happy_01.jpg", "anna", "happiness", None),
        ("bob_sad_02.jpg", "bob", "sadness", None),
    ]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{label}/*", r"pattern '\{label\}/\*': \{label\}; valid, once each: \{split\}, \{expr"),
        ("{frame}/{frame}", "valid, once each"),
    ],
)
def test_a_wrong_pattern_lists_the_fields(template, message):
    with pytest.raises(ValueError, match=message):
        name_pattern(template)


def test_unknown_folders_are_told_with_what_helps(tmp_path):
    write(tmp_path / "happy" / "1.jpg", b"")
    write(tmp_path / "smug" / "1.jpg", b"")
    with pytest.raises(ValueError, match="holds happy, smug; folders needs folders named after"):
        folders.scan(tmp_path)
    with pytest.raises(
        ValueError, match=r"smug/1.jpg: unknown expression 'smug'; valid: .*labels=smug"
    ):
        folders.scan(tmp_path, pattern="{expression}/*")
    assert len(folders.scan(tmp_path, labels="smug:contempt").faces) == 2
    for labels in ("smug", ":fear"):
        with pytest.raises(ValueError, match="valid: LABEL:EXPRESSION"):
            folders.scan(tmp_path, labels=labels)
    with pytest.raises(ValueError, match="unknown expression 'glee'; valid: anger"):
        folders.scan(tmp_path, labels="smug:glee")


FIVE = (30, 30, 60, 30, 45, 45, 33, 60, 57, 60)
"""Eyes, tip of the nose and corners of the mouth, as x and y in turn."""
TABLE = """\
path;person;emo;set;clip;no;strength;Smiling;x1;y1;x2;y2;x3;y3;x4;y4;x5;y5;note
a.jpg;anna;3;val;c1;12;0.5;1;30;30;60;30;45;45;33;60;57;60;"two
lines"
b.jpg;;4;;;;;;;;;;;;;;;;
c.jpg;bob;9;test;;;;0;1;;;;;;;;;;
../d.jpg;bob;3;test;;;;0;1;;;;;;;;;;
"""
OPTIONS = {
    "table": "lists/all.csv",
    "file": "path",
    "subject": "person",
    "expression": "emo",
    "split": "set",
    "sequence": "clip",
    "frame": "no",
    "intensity": "strength",
    "attributes": "Smiling",
    "landmarks": "x1,y1,x2,y2,x3,y3,x4,y4,x5,y5",
    "labels": "3:happiness,4:sadness,9:-",
    "images": "pictures",
    "delimiter": ";",
}


def test_a_table_with_columns_of_any_name(tmp_path):
    write(tmp_path / "lists" / "all.csv", TABLE)
    for name in "abc":
        write(tmp_path / "pictures" / f"{name}.jpg", b"picture")
    scan = corpora.scan("folders", tmp_path, OPTIONS)
    assert told(scan) == [
        ("a.jpg", "anna", "happiness", "validation"),
        ("b.jpg", None, "sadness", None),
    ]
    first, second = scan.faces
    assert (first.sequence, first.frame, first.intensity) == ("c1", 12, 0.5)
    assert first.attributes == {"Smiling": 1} and second.attributes == {}
    np.testing.assert_array_equal(first.landmarks_L3, np.c_[np.reshape(FIVE, (5, 2)), np.ones(5)])
    assert second.landmarks_L3 is None
    assert [(one.name, one.reason, one.detail) for one in scan.rejected] == [
        ("c.jpg", "left out by labels", "line 5"),
        ("../d.jpg", "path outside the source", "line 6"),
    ]


def test_a_file_that_is_left_out_is_told_once_however_its_name_is_written(tmp_path):
    rows = "a.jpg,fear\n./b.jpg,misc\nin\\c.jpg,misc\ngone.jpg,misc\n"
    write(tmp_path / "labels.csv", f"file,expression\n{rows}")
    for name in ("a.jpg", "b.jpg", "in/c.jpg", "d.jpg"):
        write(tmp_path / name, b"picture")
    scan = corpora.scan("folders", tmp_path, {"table": "labels.csv", "labels": "misc:-"})
    assert [face.name for face in scan.faces] == ["a.jpg"]
    assert [(one.name, one.reason) for one in scan.rejected] == [
        ("b.jpg", "left out by labels"),
        ("in/c.jpg", "left out by labels"),
        ("gone.jpg", "left out by labels"),
        ("d.jpg", "not listed"),
    ]


@pytest.mark.parametrize("images", ["..", "/", "../beside", "link", "in/../../beside"])
def test_pictures_outside_of_the_source_are_refused(images, tmp_path):
    source = tmp_path / "source"
    write(source / "labels.csv", "file,expression\na.jpg,fear\n")
    write(source / "in" / "a.jpg", b"picture")
    write(tmp_path / "beside" / "a.jpg", b"picture")
    (source / "link").symlink_to(tmp_path / "beside")
    told = rf"^option images '{images}': outside of the source .*source; valid: a folder in it$"
    with pytest.raises(ValueError, match=told):
        corpora.scan("folders", source, {"table": "labels.csv", "images": images})
    for inside in ("in", "./in/", "in/../in"):
        scan = corpora.scan("folders", source, {"table": "labels.csv", "images": inside})
        assert [face.name for face in scan.faces] == ["a.jpg"]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("a.jpg,3", {}, "line 2: unknown expression '3'; valid: .*labels=3:happiness"),
        ("a.jpg,fear,x", {"intensity": "extra"}, "line 2: extra 'x' is no number"),
        ("a.jpg,fear,7", {"intensity": "extra"}, "line 2: intensity 7; valid: 0 to 1"),
        ("a.jpg,fear,3.7", {"frame": "extra"}, "line 2: extra 3.7; valid: a whole number"),
        ("a.jpg,fear,dev", {"split": "extra"}, "line 2: unknown part 'dev'; valid: train"),
        ("a.jpg,fear,1", {"subject": "who"}, "column 'who' is missing; found: file"),
        ("a.jpg,fear,1", {"landmarks": "extra"}, "landmarks: 1 columns; valid: 10 or 136"),
        ("a.jpg,fear,1", {"delimiter": "::"}, "delimiter '::'; valid: one character"),
        ("a.jpg,fear,1", {"table": "b.csv"}, "no table .*b.csv"),
    ],
)
def test_a_wrong_table_is_told(tmp_path, rows, options, message):
    write(tmp_path / "labels.csv", f"file,expression,extra\n{rows}\n")
    with pytest.raises(ValueError, match=message):
        folders.scan(tmp_path, **options)


@pytest.mark.parametrize("change", [{0: -1, 1: -1}, {4: 1e308}, {0: 60, 2: 30}])
def test_points_that_are_none_of_a_face_are_left_out(tmp_path, change):
    """A point that is missing, one beyond every picture, and eyes that are confused."""
    names = [f"p{place}" for place in range(10)]
    points = [str(change.get(place, value)) for place, value in enumerate(FIVE)]
    write(tmp_path / "a.jpg", b"picture")
    rows = (["file", "expression", *names], ["a.jpg", "fear", *points])
    write(tmp_path / "labels.csv", "\n".join(map(",".join, rows)))
    assert folders.scan(tmp_path, landmarks=",".join(names)).faces[0].landmarks_L3 is None


def test_a_frame_that_no_lake_can_hold_is_refused_by_itself(tmp_path):
    for name in ("7.jpg", "1543622400000.jpg"):
        write(tmp_path / "anna" / "happy" / name, b"picture")
    scan = corpora.scan("folders", tmp_path, {"pattern": "{subject}/{expression}/{frame}"})
    assert [face.frame for face in scan.faces] == [7]
    assert reasons(scan) == {"anna/happy/1543622400000.jpg": "frame out of range"}


def test_so_is_one_in_a_table(tmp_path):
    frames = {"a.jpg": "1e12", "b.jpg": "-1", "c.jpg": "2147483648", "d.jpg": "2147483647"}
    for name in frames:
        write(tmp_path / name, b"picture")
    rows = "".join(f"{name},fear,{frame}\n" for name, frame in frames.items())
    write(tmp_path / "labels.csv", f"file,expression,frame\n{rows}")
    scan = corpora.scan("folders", tmp_path, {})
    assert [(face.name, face.frame) for face in scan.faces] == [("d.jpg", 2147483647)]
    assert reasons(scan) == dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), "frame out of range")


def test_options_are_what_they_are_declared_to_be(tmp_path):
    write(tmp_path / "1" / "happy" / "2.jpg", b"")
    write(tmp_path / "7.csv", "file,expression\nhappy/2.jpg,fear\n")
    assert corpora.scan("folders", tmp_path, {"table": "7.csv", "images": 1}).faces
    with pytest.raises(
        ValueError, match="option aligned 'x' of corpus folders; valid: true or fal"
    ):
        corpora.scan("folders", tmp_path, {"aligned": "x"})


def test_links_and_closed_folders_are_refused_by_name(tmp_path):
    source = tmp_path / "source"
    outside = write(tmp_path / "secret.jpg", b"picture")
    write(source / "happy" / "1.jpg", b"picture")
    (source / "happy" / "2.jpg").symlink_to(source / "happy" / "1.jpg")
    (source / "happy" / "3.jpg").symlink_to(outside)
    (source / "happy" / "inner").symlink_to(source)
    scan = corpora.scan("folders", source, {})
    assert [face.name for face in scan.faces] == ["happy/1.jpg", "happy/2.jpg"]
    assert reasons(scan) == {
        "happy/3.jpg": "path outside the source",
        "happy/inner": "link to a folder",
    }


def test_a_folder_without_permission_is_a_rejection(tmp_path, monkeypatch):
    write(tmp_path / "happy" / "1.jpg", b"picture")
    write(tmp_path / "sad" / "1.jpg", b"picture")
    listing = os.scandir

    def closed(path):
        if os.fspath(path).endswith("sad"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = list(files_below(tmp_path))
    assert found[-1] == Rejection(
        name="sad", reason="folder not readable", detail="Permission denied"
    )
    assert len(found) == 2


def test_fedro_is_read_for_tests_alone(tmp_path):
    scan = corpora.scan("fedro", fedro_tree.build(tmp_path), {})
    found = corpora.counts(scan.faces)
    assert found["faces"] == found["split/test"] == 21
    assert {f"faces/{label}" for label in ("anger", "neutral", "surprise")} <= set(found)
    assert scan.expected["faces"] == 400 and not scan.rejected


def test_fedro_in_another_layout_is_an_error_that_helps(tmp_path):
    write(tmp_path / "1" / "a.jpg", b"")
    write(tmp_path / "2" / "b.jpg", b"")
    with pytest.raises(ValueError, match=r"1/a.jpg: unknown expression '1'; .* option labels=1:"):
        fedro.scan(tmp_path)
    assert len(fedro.scan(tmp_path, labels="1:fear,2:anger").faces) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no file"):
        fedro.scan(tmp_path / "empty")

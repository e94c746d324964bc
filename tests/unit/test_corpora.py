"""Corpora on miniature trees in their real layouts, with the quirks that copies of them have."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from data_service import corpora
from data_service.corpora import ckplus, muxspace, oulu_casia, photos
from data_service.corpora._files import sound
from data_service.schema import Expression, Scan, SourceFace


def write(path: Path, content: str | bytes = b"picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reasons(scan: Scan) -> dict[str, str]:
    return {one.name: one.reason for one in scan.rejected}


# all


def test_corpora_are_the_modules_of_the_folder():
    assert {"photos", "muxspace", "ckplus", "oulu_casia"} <= set(corpora.names())
    for name in corpora.names():
        module = corpora.load(name)
        assert name == module.NAME
        assert module.DESCRIPTION and "\n" not in module.DESCRIPTION
        assert len(module.LAYOUT.splitlines()) >= 3
        assert all(len(line) <= 100 for line in module.LAYOUT.splitlines())


def test_unknown_corpus_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown corpus 'faces'; valid: .*ckplus.*photos"):
        corpora.load("faces")


def test_unknown_option_lists_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match=r"option 'lights' of corpus oulu_casia; valid: camera"):
        corpora.scan("oulu_casia", tmp_path, {"lights": "Weak"})
    with pytest.raises(ValueError, match="option 'x' of corpus photos; it has none"):
        corpora.scan("photos", tmp_path, {"x": 1})


@pytest.mark.parametrize(
    ("name", "option", "value", "valid"),
    [
        ("ckplus", "frames", "many", "a whole number"),
        ("ckplus", "frames", True, "a whole number"),
        ("ckplus", "frames", "1.5", "a whole number"),
        ("ckplus", "neutral", 1, "true or false"),
        ("ckplus", "neutral", "1", "true or false"),
        ("drawn", "difficulty", "hard", "a number"),
        ("oulu_casia", "light", "Bright", "Strong, Weak, Dark"),
    ],
)
def test_wrong_option_says_what_is_valid(name, option, value, valid, tmp_path):
    with pytest.raises(ValueError) as caught:
        corpora.scan(name, tmp_path, {option: value})
    assert str(caught.value) == f"option {option} '{value}' of corpus {name}; valid: {valid}"


@pytest.mark.parametrize("name", ["photos", "muxspace", "ckplus", "oulu_casia"])
def test_a_wrong_source_is_one_clear_line(name, tmp_path):
    sources = [None, tmp_path / "nowhere", write(tmp_path / "file.txt"), tmp_path]
    for source in sources:
        with pytest.raises(ValueError) as caught:
            corpora.scan(name, source, {})
        message = str(caught.value)
        assert "\n" not in message
        assert source is None or str(source) in message


def test_paths_hold_wherever_a_worker_stands(tmp_path, monkeypatch):
    photo_table(tmp_path, "file,subject,expression\na.jpg,s,fear\n", "a.jpg")
    monkeypatch.chdir(tmp_path.parent)
    scan = corpora.scan("photos", Path(tmp_path.name), {})
    assert scan.faces[0].path == tmp_path / "a.jpg"


def test_no_face_is_taken_twice(tmp_path):
    faces = [
        SourceFace(name=name, subject=subject, expression=None, path=tmp_path / "a.jpg")
        for name, subject in (("a", "1"), ("b", "1"), ("a", "2"))
    ]
    scan = sound(tmp_path, Scan(faces=tuple(faces)))
    assert scan.faces == tuple(faces[:2]) and reasons(scan) == {"a": "listed twice"}


@pytest.mark.parametrize("name", ["ckplus", "mmi", "oulu_casia", "rafdb"])
def test_a_link_in_a_circle_stops_no_scan(name, tmp_path):
    source = importlib.import_module(f"tests.corpora.{name}").build(tmp_path)
    before = corpora.scan(name, source, {})
    circle = source / "circle"
    circle.symlink_to(circle)
    assert corpora.scan(name, source, {}) == before


# photos


def photo_table(folder: Path, table: str | bytes, *files: str) -> Path:
    write(folder / "labels.csv", table)
    for file in files:
        write(folder / file)
    return folder


def test_photos_reads_what_the_table_lists(tmp_path):
    table = "file,subject,expression\nimages/a.jpg,anna,happiness\nimages/b.png,,Neutral\n\n"
    scan = photos.scan(photo_table(tmp_path, table, "images/a.jpg", "images/b.png", "stray.jpg"))
    assert [(face.name, face.subject, face.expression) for face in scan.faces] == [
        ("images/a.jpg", "anna", Expression.HAPPINESS),
        ("images/b.png", None, Expression.NEUTRAL),
    ]
    assert scan.faces[0].path == tmp_path / "images/a.jpg"
    assert reasons(scan) == {"stray.jpg": "not listed"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_photos_reads_tables_in_any_usual_encoding(encoding, tmp_path):
    table = 'expression;x,file,subject,expression\r\n1,"é, 1.jpg","Zoë ""Z""",fear\r\n'
    scan = photos.scan(photo_table(tmp_path, table.encode(encoding), "é, 1.jpg"))
    assert [(face.name, face.subject) for face in scan.faces] == [("é, 1.jpg", 'Zoë "Z"')]


def test_photos_goes_on_past_files_it_cannot_take(tmp_path):
    outside = write(tmp_path / "secret.jpg")
    source = tmp_path / "source"
    write(source / "a.jpg")
    write(source / "10:30.jpg")
    (source / "link.jpg").symlink_to(outside)
    (source / "inner.jpg").symlink_to(source / "a.jpg")
    (source / "folder").symlink_to(tmp_path)
    (source / "circle.jpg").symlink_to(source / "circle.jpg")
    names = ["a.jpg", "./a.jpg", "none.jpg", str(outside), "../secret.jpg", "link.jpg"]
    names += ["folder/secret.jpg", "c:/x.jpg", "", "inner.jpg", "\\a.jpg", "folder", "circle.jpg"]
    names += [".", "./", "10:30.jpg"]
    rows = "".join(f"{name},s,fear\n" for name in names)
    rows += f"{'n' * 300}.jpg,s,fear\n"
    scan = corpora.scan("photos", photo_table(source, "file,subject,expression\n" + rows), {})
    assert [face.name for face in scan.faces] == ["a.jpg", "inner.jpg", "10:30.jpg"]
    outside_names = [str(outside), "../secret.jpg", "link.jpg", "folder/secret.jpg", "c:/x.jpg"]
    assert reasons(scan) == {
        "a.jpg": "listed twice",
        "none.jpg": "file missing",
        "n" * 300 + ".jpg": "file missing",
        "circle.jpg": "file missing",
        "folder": "file missing",
        **dict.fromkeys([*outside_names, "", ".", "./", "\\a.jpg"], "path outside the source"),
    }
    assert scan.rejected[0].detail == "line 3"


def test_photos_refuses_a_subject_that_is_no_name(tmp_path):
    """As where a quote that stands alone takes in the rest of the table."""
    table = f"file,subject,expression\na.jpg,{'s' * 256},fear\nb.jpg,{'s' * 257},fear\n"
    scan = corpora.scan("photos", photo_table(tmp_path, table, "a.jpg", "b.jpg"), {})
    assert [face.name for face in scan.faces] == ["a.jpg"]
    assert reasons(scan) == {"b.jpg": "subject too long"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"line 1: column 'file' is missing; found: nothing; valid header: file,subject,expr"),
        ("file,expression\na.jpg,fear\n", r"labels.csv, line 1: column 'subject' is missing"),
        ("file;subject;expression\n", r"column 'file' is missing; found: file;subject;expression"),
        (
            "file,subject,expression\na.jpg,s,fear\nb.jpg,s,smug\n",
            r"labels.csv, line 3: unknown expression 'smug'; valid: anger, contempt, .*surprise",
        ),
        (
            "file,subject,expression\na.jpg,s\n",
            r"line 2: 2 columns; valid: file,subject,expression",
        ),
        ('file,subject,expression\n"a.jpg,s,fear\n', r"line 2: "),
        (b"\xff\xfef", r"labels.csv: damaged UTF-16: truncated data"),
    ],
)
def test_photos_tells_file_line_and_what_is_valid(table, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        photos.scan(photo_table(tmp_path, table, "a.jpg"))
    assert str(tmp_path / "labels.csv") in str(caught.value)


# muxspace


def test_muxspace_reads_its_legend(tmp_path):
    rows = [
        "user.id,image,emotion",
        "628,facial-expressions_2868588k.jpg,angry",
        "302,Aaron_Eckhart_0001.jpg,HAPPINESS",
        "302,Abdullah_al-Attiyah_0003.jpg,neutral",
        "520\tCondiRice0001.jpg\tSurprise",
        "520,gone.jpg,fear",
    ]
    write(tmp_path / "data" / "legend.csv", "\r\n".join(rows))
    for row in rows[1:5]:
        write(tmp_path / "images" / row.replace("\t", ",").split(",")[1])
    scan = muxspace.scan(tmp_path)
    assert [(face.name, face.subject, str(face.expression)) for face in scan.faces] == [
        ("facial-expressions_2868588k.jpg", None, "anger"),
        ("Aaron_Eckhart_0001.jpg", "Aaron_Eckhart", "happiness"),
        ("Abdullah_al-Attiyah_0003.jpg", "Abdullah_al-Attiyah", "neutral"),
        ("CondiRice0001.jpg", None, "surprise"),
    ]
    assert reasons(scan) == {"gone.jpg": "file missing"}


@pytest.mark.parametrize(
    ("legend", "message"),
    [
        ("user.id,image\n", "line 1: header 'user.id,image'; valid: user.id,image,emotion"),
        ("user.id,image,emotion\n1,a.jpg,smug\n", "line 2: unknown emotion 'smug'; valid: anger"),
        ("user.id,image,emotion\n1,a.jpg\n", "line 2: 2 columns"),
    ],
)
def test_muxspace_tells_what_is_wrong_in_its_legend(legend, message, tmp_path):
    write(tmp_path / "data" / "legend.csv", legend)
    with pytest.raises(ValueError, match=message):
        muxspace.scan(tmp_path)


# CK+


def ck_sequence(root: Path, subject: str, sequence: str, frames: list[int], code: str | None):
    """One sequence in the layout of the four archives, each unpacked in its own way."""
    stems = [f"{subject}_{sequence}_{frame:08d}" for frame in frames]
    images = root / "extended-cohn-kanade-images" / "cohn-kanade-images" / subject / sequence
    eyes_and_mouth = [(10, 20)] * 6 + [(40, 20)] * 6 + [(25, 60)] * 20
    face = [(i, 2 * i) for i in range(36)] + eyes_and_mouth
    points = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in face)
    for stem in stems:
        write(images / f"{stem}.png")
        write(root / "Landmarks" / subject / sequence / f"{stem}_landmarks.txt", points)
    write(images / ".DS_Store")
    write(images / f"._{stems[0]}.png")
    labels = root / "Emotion_labels" / "Emotion" / subject / sequence
    labels.mkdir(parents=True)
    write(labels.parent / ".DS_Store")
    if code is not None:
        write(labels / f"{stems[-1]}_emotion.txt", f"   {code}\n")


@pytest.fixture
def ck(tmp_path) -> Path:
    ck_sequence(tmp_path, "S005", "001", list(range(1, 12)), "3.0000000e+00")
    ck_sequence(tmp_path, "S010", "002", [1, 2, 4, 5, 8], "7.0000000e+00")
    ck_sequence(tmp_path, "S010", "003", [1, 2, 3, 4], None)
    return tmp_path


def test_ckplus_takes_the_last_frames_and_the_first_as_neutral(ck):
    scan = ckplus.scan(ck)
    told = [(f.subject, f.sequence, f.frame, str(f.expression)) for f in scan.faces]
    assert told == [
        ("S005", "S005/001", 1, "neutral"),
        ("S005", "S005/001", 9, "disgust"),
        ("S005", "S005/001", 10, "disgust"),
        ("S005", "S005/001", 11, "disgust"),
        ("S010", "S010/002", 1, "neutral"),
        ("S010", "S010/002", 4, "surprise"),
        ("S010", "S010/002", 5, "surprise"),
        ("S010", "S010/002", 8, "surprise"),
    ]
    name = "extended-cohn-kanade-images/cohn-kanade-images/S010/003"
    assert reasons(scan) == {name: "no emotion label"}
    landmarks_L3 = scan.faces[0].landmarks_L3
    assert landmarks_L3.shape == (68, 3)
    np.testing.assert_array_equal(landmarks_L3[5], [5, 10, 1])
    assert scan.faces[0].name.endswith("cohn-kanade-images/S005/001/S005_001_00000001.png")


def test_ckplus_expects_its_327_sequences(ck):
    assert sum(ckplus.EXPECTED.values()) == 327
    found = corpora.counts(ckplus.scan(ck).faces)
    assert found["sequences"] == found["subjects"] == 2
    assert found["sequences/disgust"] == found["sequences/surprise"] == 1
    assert set(ckplus.EXPECTED) == {f"sequences/{one}" for one in Expression if one != "neutral"}


def test_ckplus_options(ck):
    assert len(ckplus.scan(ck, neutral=False).faces) == 6
    assert len(ckplus.scan(ck, frames=1).faces) == 4
    first = [face for face in ckplus.scan(ck, frames=5).faces if face.frame == 1]
    assert {str(face.expression) for face in first} == {"neutral"}
    scan = ckplus.scan(ck, frames=6)
    assert {face.subject for face in scan.faces} == {"S005"}
    few = {one.reason: (one.name, one.detail) for one in scan.rejected}["few frames"]
    assert few == ("cohn-kanade-images/S010/002", "5 of 6")
    clips = [(face.frame, face.expression is None) for face in ckplus.scan(ck, clips=True).faces]
    assert clips[:11] == [(frame, 1 < frame < 9) for frame in range(1, 12)]
    with pytest.raises(ValueError, match="0 frames"):
        ckplus.scan(ck, frames=0)


def test_ckplus_sequences_of_one_frame_have_no_peak_beside_the_neutral_one(ck):
    ck_sequence(ck, "S099", "001", [1], "3.0000000e+00")
    whole = ckplus.scan(ck, frames=1)
    assert {face.subject for face in whole.faces} == {"S005", "S010"}
    told = [(one.reason, one.detail) for one in whole.rejected]
    assert ("few frames", "1 of 2") in told
    [alone] = [one for one in ckplus.scan(ck, frames=1, neutral=False).faces if one.frame == 1]
    assert (alone.subject, alone.expression) == ("S099", Expression.DISGUST)


def test_options_may_be_texts(ck):
    scan = corpora.scan("ckplus", ck, {"frames": "1", "neutral": "False"})
    assert [face.name for face in scan.faces] == [
        face.name for face in ckplus.scan(ck, frames=1, neutral=False).faces
    ]
    made = {"subjects": "2", "faces_per_subject": "8", "difficulty": "0.5"}
    assert len(corpora.scan("drawn", None, made).faces) == 16


def test_ckplus_peak_is_the_frame_that_the_label_names(ck):
    images = ck / "extended-cohn-kanade-images" / "cohn-kanade-images" / "S010" / "002"
    write(images / "S010_002_00000009.png")
    frames = [face.frame for face in ckplus.scan(ck).faces if face.subject == "S010"]
    assert frames == [1, 4, 5, 8]
    assert "behind the peak" in reasons(ckplus.scan(ck)).values()
    (images / "S010_002_00000008.png").unlink()
    scan = ckplus.scan(ck)
    assert {face.subject for face in scan.faces} == {"S005"}
    assert list(reasons(scan).values()) == ["peak frame missing", "no emotion label"]


def test_ckplus_without_whole_landmarks_leaves_the_face_to_the_detector(ck):
    folder = ck / "Landmarks" / "S005" / "001"
    write(folder / "S005_001_00000009_landmarks.txt", "1.0 2.0\n")
    write(folder / "S005_001_00000010_landmarks.txt", "not numbers")
    (folder / "S005_001_00000011_landmarks.txt").unlink()
    has = [face.landmarks_L3 is not None for face in ckplus.scan(ck).faces[:4]]
    assert has == [True, False, False, False]


@pytest.mark.parametrize("code", ["0.0000000e+00", "8.0000000e+00", "3.7", "happy", "nan", "inf"])
def test_ckplus_refuses_codes_it_does_not_have(ck, code):
    ck_sequence(ck, "S099", "001", [1, 2, 3, 4], code)
    with pytest.raises(ValueError, match=rf"_emotion.txt, line 1: unknown code '{code[:3]}.*1 ang"):
        ckplus.scan(ck)


def test_ckplus_empty_label_file_is_a_rejection(ck):
    ck_sequence(ck, "S099", "001", [1, 2, 3, 4], "")
    assert list(reasons(ckplus.scan(ck)).values()) == ["empty label file", "no emotion label"]


def test_ckplus_takes_no_sequence_with_two_labels(ck):
    labels = ck / "Emotion_labels" / "Emotion" / "S005" / "001"
    write(labels / "S005_001_00000010_emotion.txt", "   7.0000000e+00\n")
    scan = ckplus.scan(ck)
    assert {face.subject for face in scan.faces} == {"S010"}
    assert list(reasons(scan).values()) == ["several labels"] * 2 + ["no emotion label"]


def test_ckplus_tells_of_files_that_lie_about(ck):
    images = ck / "extended-cohn-kanade-images" / "cohn-kanade-images"
    write(images / "list.txt")
    write(images / "S005" / "odd.png")
    told = {Path(name).name: reason for name, reason in reasons(ckplus.scan(ck)).items()}
    assert told["list.txt"] == "in no folder of a subject"
    assert told["odd.png"] == "in no folder of a sequence"


def test_ckplus_images_alone_are_not_the_corpus(ck):
    with pytest.raises(ValueError, match="no folder Emotion in"):
        ckplus.scan(ck / "extended-cohn-kanade-images")


# Oulu-CASIA


@pytest.fixture
def oulu(tmp_path) -> Path:
    root = tmp_path / "B_OriginalImg"
    for camera, light in (("VL", "Strong"), ("VL", "Weak"), ("NI", "Strong")):
        for subject in ("P001", "P002"):
            for expression in ("Anger", "Happiness"):
                folder = root / camera / light / subject / expression
                for frame in range(6):
                    write(folder / f"{frame:03d}.jpeg")
                write(folder / "Thumbs.db")
    write(root / "VL" / "Strong" / "Thumbs.db")
    write(tmp_path / "C_PreProcess Img" / "VL_Acropped" / "Strong" / "P001" / "Anger" / "000.jpeg")
    return tmp_path


def test_oulu_takes_the_last_three_frames_in_strong_visible_light(oulu):
    scan = oulu_casia.scan(oulu)
    assert len(scan.faces) == 12
    first = scan.faces[0]
    assert first.name == "B_OriginalImg/VL/Strong/P001/Anger/003.jpeg"
    assert (first.subject, first.sequence, first.frame) == ("P001", "VL/Strong/P001/Anger", 3)
    assert {str(face.expression) for face in scan.faces} == {"anger", "happiness"}
    found = corpora.counts(scan.faces)
    assert found["sequences"] == 4 and found["subjects"] == 2 and found["sequences/anger"] == 2
    assert sum(n for key, n in scan.expected.items() if key.startswith("sequences/")) == 480


@pytest.mark.parametrize("part", ["B_OriginalImg", "B_OriginalImg/VL"])
def test_oulu_may_be_unpacked_at_any_level(oulu, part):
    assert len(oulu_casia.scan(oulu / part).faces) == 12


def test_oulu_options(oulu):
    weak = oulu_casia.scan(oulu, light="Weak", frames=2, neutral=True)
    assert [face.frame for face in weak.faces[:3]] == [0, 4, 5]
    assert [str(face.expression) for face in weak.faces[:3]] == ["neutral", "anger", "anger"]
    assert len(oulu_casia.scan(oulu, camera="NI").faces) == 12
    clips = oulu_casia.scan(oulu, clips=True).faces[:6]
    assert [face.expression is None for face in clips] == [True] * 3 + [False] * 3
    with pytest.raises(ValueError, match="no folder NI/Dark in"):
        oulu_casia.scan(oulu, camera="NI", light="Dark")


def test_oulu_sequences_of_one_frame_have_no_peak_beside_the_neutral_one(oulu):
    for path in (oulu / "B_OriginalImg" / "VL" / "Strong" / "P001" / "Anger").glob("00[1-9].jpeg"):
        path.unlink()
    scan = oulu_casia.scan(oulu, frames=1, neutral=True)
    assert not any(face.sequence == "VL/Strong/P001/Anger" for face in scan.faces)
    assert ("few frames", "1 of 2") in [(one.reason, one.detail) for one in scan.rejected]
    assert len(oulu_casia.scan(oulu, frames=1).faces) == 4


def test_oulu_takes_the_faces_that_the_owners_cut_out(oulu):
    cropped = oulu / "C_PreProcess Img" / "VL_Acropped" / "Strong" / "P001" / "Anger"
    for frame in range(5):
        write(cropped / f"{frame:03d}.jpeg")
    for source, options in ((oulu, {"images": "cropped"}), (oulu / "C_PreProcess Img", {})):
        scan = corpora.scan("oulu_casia", source, options)
        assert [face.path for face in scan.faces] == [
            cropped / f"{frame:03d}.jpeg" for frame in (2, 3, 4)
        ]
        first = scan.faces[0]
        assert first.name.endswith("VL_Acropped/Strong/P001/Anger/002.jpeg")
        assert (first.subject, first.sequence) == ("P001", "VL/Strong/P001/Anger")
        assert not scan.aligned, "how they were aligned is not known"
    with pytest.raises(ValueError, match="no folder VL/Strong in"):
        oulu_casia.scan(oulu / "C_PreProcess Img", images="original")


def test_oulu_says_what_is_not_whole(oulu):
    light = oulu / "B_OriginalImg" / "VL" / "Strong"
    for path in (light / "P001" / "Anger").glob("*.jpeg"):
        path.unlink()
    for number in range(4):
        (light / "P002" / "Anger" / f"{number:03d}.jpeg").unlink()
    write(light / "P002" / "Happiness" / "004.webp")
    write(light / "P002" / "notes.txt")
    scan = oulu_casia.scan(oulu)
    assert len(scan.faces) == 6
    told = {name.partition("Strong/")[2]: reason for name, reason in reasons(scan).items()}
    for subject in ("P001", "P002"):
        for expression in ("Anger", "Happiness"):
            assert told.pop(f"{subject}/{expression}/Thumbs.db") == "not a picture"
        for expression in ("Disgust", "Fear", "Sadness", "Surprise"):
            assert told.pop(f"{subject}/{expression}") == "sequence missing"
    assert told == {
        "Thumbs.db": "in no folder of a subject",
        "P002/notes.txt": "in no folder of an expression",
        "P001/Anger": "no picture",
        "P002/Anger": "few frames",
        "P002/Happiness/004.webp": "not a picture",
    }


def test_oulu_refuses_folders_that_are_no_expression(oulu):
    (oulu / "B_OriginalImg" / "VL" / "Strong" / "P002" / "Contempt").mkdir()
    with pytest.raises(ValueError, match="Contempt: unknown expression; valid: anger, disgust"):
        oulu_casia.scan(oulu)


def test_oulu_twice_below_one_source_is_ambiguous(oulu):
    write(oulu / "copy" / "VL" / "Strong" / "P001" / "Anger" / "000.jpeg")
    with pytest.raises(
        ValueError, match=r"several folders VL/Strong: .*; valid: a source with one"
    ):
        oulu_casia.scan(oulu)

"""KDEF, BU-4DFE, CFEE and CASIA-WebFace on miniature trees with the quirks of their copies."""

from pathlib import Path

import pytest

from data_service import corpora
from data_service.corpora import bu4dfe, casia_webface, cfee, kdef
from tests.corpora import bu4dfe as bu4dfe_tree
from tests.corpora import casia_webface as casia_tree
from tests.corpora import cfee as cfee_tree
from tests.corpora import kdef as kdef_tree
from tests.corpora.pictures import write


def reasons(scan):
    return {one.name.rpartition("/")[2]: one.reason for one in scan.rejected}


@pytest.mark.parametrize("name", ["bu4dfe", "casia_webface", "celeba", "cfee", "fedro", "kdef"])
def test_a_wrong_source_is_one_clear_line(name, tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (
        None,
        tmp_path / "nowhere",
        write(tmp_path / "file.txt", ""),
        tmp_path / "empty",
    ):
        with pytest.raises(ValueError) as caught:
            corpora.scan(name, source, {})
        assert "\n" not in str(caught.value)
        assert source is None or str(source) in str(caught.value)


# KDEF


@pytest.fixture(scope="module")
def karolinska(tmp_path_factory) -> Path:
    return kdef_tree.build(tmp_path_factory.mktemp("kdef"))


def test_kdef_reads_session_subject_expression_and_view(karolinska):
    scan = corpora.scan("kdef", karolinska, {})
    found = corpora.counts(scan.faces)
    assert found["subjects"] == 6 and found["faces"] == 6 * 2 * 7 + 2 * 2 * 7
    by_stem = {Path(face.name).stem: face for face in scan.faces}
    face = by_stem["AF01HAHL"]
    assert (face.subject, str(face.expression), face.sitting) == ("F01", "happiness", "A/HL")
    assert face.attributes == {"yaw": -45.0}
    assert by_stem["BM31AFS"].attributes == {"yaw": 0.0}
    assert str(by_stem["BM31AFS"].expression) == "fear"
    assert by_stem["AF02SUFR"].attributes == {"yaw": 90.0}
    assert reasons(scan) == {
        "AF31V.JPG": "name not of the corpus",
        "AF36ANS.JPG": "name not of the corpus",
        "AF01ANS.JPG": "listed twice",
        "Thumbs.db": "name not of the corpus",
    }


def test_kdef_views_may_be_chosen(karolinska):
    scan = kdef.scan(karolinska, views="s,hl")
    assert {face.attributes["yaw"] for face in scan.faces} == {0.0, -45.0}
    assert scan.expected["faces"] == 1960 and scan.expected["faces/fear"] == 280
    assert (
        kdef.scan(karolinska).expected == kdef.EXPECTED
        and sum(number for key, number in kdef.EXPECTED.items() if key.startswith("faces/"))
        == kdef.EXPECTED["faces"]
    )
    with pytest.raises(ValueError, match="option views 'UP' of kdef; valid: FL, HL, S, HR, FR"):
        kdef.scan(karolinska, views="S,up")


# BU-4DFE


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    return bu4dfe_tree.build(tmp_path_factory.mktemp("bu4dfe"))


def test_bu4dfe_takes_the_middle_of_each_sequence(moving):
    scan = corpora.scan("bu4dfe", moving, {})
    found = corpora.counts(scan.faces)
    assert found["subjects"] == 5 and found["sequences"] == 5 * 6 - 2
    assert found["faces"] == 3 * found["sequences"]
    frames = {}
    for face in scan.faces:
        frames.setdefault(face.sequence, []).append(face.frame)
    assert frames["F058/Surprise"] == [3, 4, 5]
    assert reasons(scan) == {
        "Sad": "no texture",
        "Angry": "sequence twice",
        "Happy": "no frame in the middle",  # 1 to 5 of M001 are lost
    }
    assert scan.expected["sequences"] == 606


def test_bu4dfe_options(moving):
    scan = bu4dfe.scan(moving, frames=1, neutral=True)
    first = [(face.frame, str(face.expression)) for face in scan.faces[:2]]
    assert first == [(0, "neutral"), (4, "anger")]
    most = [face for face in bu4dfe.scan(moving, frames=99).faces if face.subject == "F001"]
    assert {face.frame for face in most} == {3, 4, 5}  # never more than the middle third
    clip = bu4dfe.scan(moving, frames=1, neutral=True, clips=True).faces[:9]
    told = [str(face.expression) for face in clip]
    assert [face.frame for face in clip] == list(range(9))
    assert told == ["neutral", *["None"] * 3, "anger", *["None"] * 4]
    with pytest.raises(ValueError, match="0 frames"):
        bu4dfe.scan(moving, frames=0)


def test_bu4dfe_subjects_may_lie_in_folders_of_their_name(tmp_path):
    for frame in range(9):
        write(tmp_path / "F001" / "F001" / "Angry" / f"{frame:03d}.jpg", b"picture")
    write(tmp_path / "F002" / "F002.txt", b"")
    scan = bu4dfe.scan(tmp_path)
    assert [(face.subject, face.sequence, face.frame) for face in scan.faces] == [
        ("F001", "F001/Angry", frame) for frame in (3, 4, 5)
    ]
    told = {one.name: one.reason for one in scan.rejected}
    assert told.pop("F002") == "no folder of an expression"
    assert set(told.values()) == {"sequence missing"} and len(told) == 5


def test_bu4dfe_tells_of_subjects_that_it_does_not_have(tmp_path):
    for subject in ("F001", "F059"):
        for frame in range(9):
            write(tmp_path / subject / "Angry" / f"{frame:03d}.jpg", b"picture")
    scan = bu4dfe.scan(tmp_path)
    assert {face.subject for face in scan.faces} == {"F001"}
    assert reasons(scan)["F059"] == "name not of the corpus"


def test_bu4dfe_refuses_folders_that_are_no_expression(tmp_path):
    write(tmp_path / "F001" / "Smug" / "000.jpg", b"")
    with pytest.raises(ValueError, match="Smug: unknown expression; valid: angry, disgust"):
        bu4dfe.scan(tmp_path)


# CFEE


def test_cfee_keeps_compound_pictures_as_categories(tmp_path):
    scan = corpora.scan("cfee", cfee_tree.build(tmp_path), {})
    found = corpora.counts(scan.faces)
    assert found["faces"] == 6 * 9 and found["subjects"] == 6 and found["faces/happiness"] == 6
    compound = [face for face in scan.faces if face.expression is None]
    assert len(compound) == 12
    assert compound[0].attributes["happily surprised"] == 1
    assert sum(compound[0].attributes.values()) == 1 and len(compound[0].attributes) == 22
    assert reasons(scan) == {"happy.jpg": "file missing"}
    assert scan.expected["faces"] == 230 * len(cfee.CATEGORIES)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,1,7", "line 2: unknown category '7'; valid: neutral, happy"),
        ("a.jpg,,happy", "line 2: no subject"),
    ],
)
def test_cfee_guesses_nothing(tmp_path, row, message):
    write(tmp_path / "index.csv", f"file,subject,category\n{row}\n")
    with pytest.raises(ValueError, match=message):
        cfee.scan(tmp_path)


# CASIA-WebFace


def test_casia_webface_is_folders_of_identities(tmp_path):
    source = casia_tree.build(tmp_path)
    scan = corpora.scan("casia_webface", source, {})
    found = corpora.counts(scan.faces)
    assert found == {"faces": 25, "subjects": 8}
    assert scan.faces[0].name == "CASIA-WebFace/0000045/001.jpg"
    assert scan.faces[0].subject == "0000045" and scan.faces[0].expression is None
    assert reasons(scan) == {"001.jpg": "name not of the corpus"}
    inner = casia_webface.scan(source / "CASIA-WebFace", aligned=True)
    assert len(inner.faces) == 25 and inner.aligned


def test_casia_webface_in_records_is_told(tmp_path):
    write(tmp_path / "train.rec", b"")
    with pytest.raises(ValueError, match=r"holds records \(.rec\); casia_webface needs them unp"):
        casia_webface.scan(tmp_path)

"""RAF-DB, SFEW, RaFD, AffectNet and TFD on miniature trees with the quirks of real copies."""

import os
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from data_service import corpora
from data_service.corpora import _arrays, _mat, affectnet, rafd, rafdb, sfew, tfd
from data_service.corpora._arrays import mat_numbers, small_numbers
from data_service.corpora._mat import variables
from data_service.corpora._points import landmarks
from data_service.schema import Expression, Rejection
from tests.corpora import affectnet as affectnet_tree
from tests.corpora import rafd as rafd_tree
from tests.corpora import rafdb as rafdb_tree
from tests.corpora import sfew as sfew_tree
from tests.corpora import tfd as tfd_tree
from tests.corpora.pictures import write


def reasons(scan) -> Counter:
    return Counter(one.reason for one in scan.rejected)


def parts(scan) -> Counter:
    return Counter(one.split for one in scan.faces)


# RAF-DB


@pytest.fixture(scope="module")
def raf(tmp_path_factory) -> Path:
    return rafdb_tree.build(tmp_path_factory.mktemp("rafdb"))


def test_rafdb_reads_its_list(raf):
    scan = corpora.scan("rafdb", raf, {})
    assert parts(scan) == {"train": 21, "test": 14}
    assert reasons(scan) == {"file missing": 1}
    extra = write(raf / "basic" / "Image" / "aligned" / "train_00022_aligned.jpg", b"picture")
    assert reasons(rafdb.scan(raf)) == {"file missing": 1, "not listed": 1}
    extra.unlink()
    told = [(one.name, str(one.expression), one.landmarks_L3) for one in scan.faces[:2]]
    assert told == [
        ("train_00001_aligned.jpg", "surprise", None),
        ("train_00002_aligned.jpg", "fear", None),
    ]
    classes = [n for key, n in rafdb.EXPECTED.items() if key.startswith("faces/")]
    assert sum(classes) == rafdb.EXPECTED["faces"] == 12_271 + 3_068


def test_rafdb_original_pictures_come_with_points(raf):
    [first, second, *_] = rafdb.scan(raf, images="original").faces
    assert first.name == "train_00001.jpg"
    np.testing.assert_array_equal(first.landmarks_L3[1], [60, 40.5, 1])
    points = raf / "basic" / "Annotation" / "manual" / "train_00002_manu_attri.txt"
    points.write_text("1 2\n3 4\n")
    assert rafdb.scan(raf, images="original").faces[1].landmarks_L3 is None
    assert second.landmarks_L3 is not None


def test_rafdb_as_folders_is_the_same(raf, tmp_path):
    folders = rafdb.scan(rafdb_tree.build_folders(tmp_path))
    listed = rafdb.scan(raf)
    key = lambda one: (Path(one.name).name, one.split, one.expression)  # noqa: E731
    assert sorted(map(key, folders.faces)) == sorted(map(key, listed.faces))


def test_rafdb_folders_beside_the_parts_are_told(tmp_path):
    source = rafdb_tree.build_folders(tmp_path)
    whole = corpora.scan("rafdb", source, {})
    shutil.copytree(source / "DATASET" / "test", source / "DATASET" / "valid")
    write(source / "other" / "train" / "1" / "again.jpg", b"picture")
    for name in ("train_labels.csv", "README.md", "DATASET/notes.txt"):
        write(source / name, "told elsewhere")
    scan = corpora.scan("rafdb", source, {})
    assert scan.faces == whole.faces and not whole.rejected
    assert reasons(scan) == {"in no known part": 15}
    assert {one.detail for one in scan.rejected} == {"taken: DATASET/test, DATASET/train"}


@pytest.mark.parametrize(
    "line",
    [
        "train_00001.jpg 8",
        "valid_1.jpg 2",
        "train_00001.jpg",
        "x y z",
        pytest.param(f"train_00001.jpg {'9' * 5000}", id="a code of 5,000 digits"),
    ],
)
def test_rafdb_list_of_something_else(line, tmp_path):
    write(tmp_path / "EmoLabel" / "list_patition_label.txt", f"train_00001.jpg 3\n{line}\n")
    (tmp_path / "Image" / "aligned").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"list_patition_label.txt, line 2: .*1 surprise, 2 fear"):
        rafdb.scan(tmp_path)


# SFEW


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    return sfew_tree.build(tmp_path_factory.mktemp("sfew"))


def test_sfew_val_is_tested_on(films):
    for images in ("aligned", "frames"):
        scan = corpora.scan("sfew", films, {"images": images})
        assert parts(scan) == {"train": 21, "test": 14}
        assert {("Aligned" in one.name) for one in scan.faces} == {images == "aligned"}
        assert {one.sequence for one in scan.faces} == {f"Airheads_{at:09d}" for at in range(3)}
        assert Counter(one.expression for one in scan.faces)[Expression.ANGER] == 5
        names = {Path(one.name).name: one.reason for one in scan.rejected}
        aligned = {"1.png": "labels withheld"}
        assert names == (aligned if images == "aligned" else {"Thumbs.db": "not a picture"})
    assert sfew.EXPECTED["split/train"] + sfew.EXPECTED["split/test"] == sfew.EXPECTED["faces"]


def test_sfew_pictures_without_folders_of_expressions_are_told(films, tmp_path):
    write(tmp_path / "Train" / "Train_Aligned_Faces" / "Angry" / "a.png", "")
    write(tmp_path / "Val" / "Val_Aligned_Faces" / "1.png", "")
    scan = sfew.scan(tmp_path)
    assert parts(scan) == {"train": 1} and reasons(scan) == {"in no folder of an expression": 1}
    assert scan.faces[0].sequence is None
    (tmp_path / "Train" / "Train_Aligned_Faces" / "Angry" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"no part in .* has a folder such as Angry with pictures"):
        sfew.scan(tmp_path)
    write(tmp_path / "Val" / "Val_Aligned_Faces" / "Bored" / "1.png", "")
    with pytest.raises(ValueError, match=r"Bored: unknown expression; valid: angry, disgust"):
        sfew.scan(tmp_path)


# RaFD


def test_rafd_names_tell_all(tmp_path):
    scan = corpora.scan("rafd", rafd_tree.build(tmp_path), {"cameras": 90})
    assert len(scan.faces) == 40 and reasons(scan) == {"name not of the corpus": 2}
    first = scan.faces[0]
    assert first.name == "RaFD/Rafd090_01_Caucasian_male_angry_frontal.jpg"
    assert (first.subject, first.sitting, first.expression) == (
        "model 01",
        "camera 090",
        Expression.ANGER,
    )
    assert scan.faces[-1].attributes == {"camera": 90, "yaw": 0, "female": 1, "kid": 1}
    assert scan.expected["faces"] == 1608 == rafd.EXPECTED["faces"]
    both = rafd.scan(tmp_path, cameras="45,90", gaze="left")
    assert len(both.faces) == 30 and both.expected["faces"] == 67 * 8 * 2
    assert {face.attributes["yaw"] for face in both.faces} == {-45, 0}
    assert rafd.scan(tmp_path, cameras="0,45,90,135,180").expected["faces"] == 8040
    for cameras in ("60", "front", ""):
        with pytest.raises(ValueError, match="valid: some of 0, 45, 90, 135, 180"):
            rafd.scan(tmp_path, cameras=cameras)


# AffectNet


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Path:
    return affectnet_tree.build(tmp_path_factory.mktemp("affectnet"))


def test_affectnet_first_delivery(web):
    scan = corpora.scan("affectnet", web, {})
    assert parts(scan) == {"train": 25, "test": 16}
    assert reasons(scan) == {
        "no expression": 1,
        "expression uncertain": 1,
        "no face": 1,
        "file missing": 1,
        "path outside the source": 1,
        "listed twice": 1,
        "unknown expression code": 1,
    }
    first = scan.faces[0]
    assert first.landmarks_L3.shape == (68, 3) and first.landmarks_L3.dtype == np.float32
    np.testing.assert_allclose(first.landmarks_L3[:, :2], affectnet_tree.points(), atol=0.006)
    assert first.attributes == {"valence": 0.5, "arousal": -0.25}
    odd = next(one for one in scan.faces if one.name == "1/odd.jpg")
    assert (odd.landmarks_L3, dict(odd.attributes)) == (None, {})
    assert scan.rejected[0].detail == "training.csv, line 26"


def test_affectnet_second_delivery(tmp_path):
    scan = affectnet.scan(affectnet_tree.build_second(tmp_path))
    assert parts(scan) == {"train": 24, "test": 16}
    refused = {Path(one.name).name: (one.reason, one.detail) for one in scan.rejected}
    assert refused == {
        "90.jpg": ("unknown expression code", "90_exp.npy: file missing"),
        "91.jpg": (
            "unknown expression code",
            "91_exp.npy: damaged array, objects instead of numbers",
        ),
        "92.jpg": ("no expression", ""),
    }
    first = scan.faces[0]
    assert first.name == "train_set/images/0.jpg" and first.attributes == {"valence": 0.5}
    assert first.landmarks_L3.shape == (68, 3)
    assert scan.expected["split/test"] == 3_999


@pytest.mark.parametrize("build", [affectnet_tree.build, affectnet_tree.build_second])
def test_affectnet_takes_no_manual_labels_for_automatic_ones(build, tmp_path):
    source = build(tmp_path)
    with pytest.raises(ValueError, match=r"^no automatically_annotated.csv in .*; affectnet needs"):
        affectnet.scan(source, annotated="automatic")
    assert affectnet.scan(source).faces


def test_affectnet_reads_automatic_labels(tmp_path):
    write(tmp_path / "automatically_annotated.csv", affectnet_tree.row("1/a.jpg", 4))
    write(tmp_path / "Automatically_Annotated_Images" / "1" / "a.jpg", b"picture")
    [one] = affectnet.scan(tmp_path, annotated="automatic").faces
    assert (one.name, one.expression) == ("1/a.jpg", Expression.FEAR)


def test_affectnet_takes_one_picture_of_each_annotation(tmp_path):
    source = affectnet_tree.build_second(tmp_path)
    before = affectnet.scan(source)
    for part in ("train_set", "val_set"):
        write(source / part / "images" / "0.png", b"picture")
    scan = affectnet.scan(source)
    assert [face.name for face in scan.faces] == [face.name for face in before.faces]
    assert set(scan.rejected) - set(before.rejected) == {
        Rejection(name=f"{part}/images/0.png", reason="listed twice", detail="0")
        for part in ("train_set", "val_set")
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,expression\na.jpg,1\n", r"line 1: header 'file,expression'; valid: subDirectory"),
        ("a.jpg,1\n", r"line 1: 2 columns; valid: subDirectory"),
    ],
)
def test_affectnet_table_of_something_else(text, message, tmp_path):
    write(tmp_path / "training.csv", text)
    with pytest.raises(ValueError, match="no folder Manually_Annotated_Images in"):
        affectnet.scan(tmp_path)
    (tmp_path / "Manually_Annotated_Images").mkdir()
    with pytest.raises(ValueError, match=message):
        affectnet.scan(tmp_path)


def test_points_that_are_no_face_are_left_to_the_detector():
    five = [30, 30, 60, 30, 45, 45, 33, 60, 57, 60]
    assert landmarks(five, 5).shape == (5, 3)
    mirrored = [60, 30, 30, 30, 45, 45, 57, 60, 33, 60]
    below = [30, 60, 60, 60, 45, 45, 33, 30, 57, 30]
    for wrong in (mirrored, below, [0] * 10, five[:9], ["a"] * 10, [np.nan] * 10):
        assert landmarks(wrong, 5) is None


def test_small_arrays_are_numbers_or_refused(tmp_path):
    for value in (np.array("3"), np.array(3), np.array([3.0])):
        np.save(tmp_path / "a.npy", value)
        assert small_numbers(tmp_path, tmp_path / "a.npy").ravel().tolist() == [3.0]
    whole = (tmp_path / "a.npy").read_bytes()
    huge = whole.replace(b"(1,)", b"(9" + b"9" * 9 + b",)")[: len(whole)]
    for content in (b"", b"text", whole[:-3], huge, whole + b"x" * 70_000):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(ValueError):
            small_numbers(tmp_path, tmp_path / "b.npy")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': (), 'fortran_order': False, 'shape': ()}",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,",
        b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}",
        b"-" * 5000 + b"1",
        b"{1: 2, 'descr': None}",
        b"{[]: 1}",
    ],
)
def test_small_arrays_with_any_header_are_numbers_or_refused(header, tmp_path):
    told = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
    (tmp_path / "a.npy").write_bytes(told + header + b"\xff" * 4)
    with pytest.raises(ValueError, match=r"no array that can be read: \w+$|cut short"):
        small_numbers(tmp_path, tmp_path / "a.npy")


# TFD


@pytest.fixture(scope="module")
def toronto(tmp_path_factory) -> Path:
    return tfd_tree.build(tmp_path_factory.mktemp("tfd"))


def test_tfd_reads_labels_persons_and_a_fold(toronto):
    scan = corpora.scan("tfd", toronto, {})
    assert scan.aligned and parts(scan) == {"train": 12, "validation": 12, "test": 12}
    assert [str(one.expression) for one in scan.faces[:3]] == ["anger", "disgust", "fear"]
    assert scan.faces[0].subject == "person 0" and scan.faces[-1].subject is None
    other = corpora.scan("tfd", toronto, {"fold": 2})
    assert [one.split for one in other.faces] != [one.split for one in scan.faces]
    assert len(tfd.scan(toronto, unlabelled=True).faces) == 40
    picture = next(tfd.read_pictures(scan.faces[5].path, [scan.faces[5]]))
    np.testing.assert_array_equal(picture[..., 0], tfd_tree.arrays()["images"][5])
    for fold in (0, 6):
        with pytest.raises(ValueError, match="valid: 1 to 5"):
            tfd.scan(toronto, fold=fold)


def test_tfd_lying_faces_are_told(tmp_path):
    arrays = tfd_tree.arrays()
    lying = {**arrays, "images": arrays["images"].transpose(0, 2, 1)}
    tfd_tree.save(tmp_path, lying)
    with pytest.raises(ValueError, match=r"lie on their side; valid: --option transposed=True"):
        tfd.scan(tmp_path)
    face = tfd.scan(tmp_path, transposed=True).faces[0]
    picture = next(tfd.read_pictures(face.path, [face]))
    np.testing.assert_array_equal(picture[..., 0], arrays["images"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labs_ex": np.full(40, 8)}, "labs_ex has 8; valid: 1 anger"),
        ({"folds": np.zeros((40, 3))}, r"folds the shape \(40, 3\)"),
        ({"images": np.zeros((39, 48, 48), np.uint8)}, r"images is \(39, 48, 48\)"),
        ({"images": np.zeros((40, 48, 48))}, "images is float64"),
        ({"images": np.array([[{"a": 1}]], dtype=object)}, "images is a cell; valid: numbers"),
        ({"labs_id": {"a": 1}}, "labs_id is a struct; valid: numbers"),
        ({"labs_id": None}, "has no variable labs_id; it has images"),
    ],
)
def test_tfd_of_another_kind_is_refused(change, message, tmp_path):
    arrays = {**tfd_tree.arrays(), **change}
    tfd_tree.save(tmp_path, {name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message) as caught:
        tfd.scan(tmp_path)
    assert "\n" not in str(caught.value)


def test_mat_files_are_checked_before_they_are_loaded(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"images": np.zeros((50, 50), np.uint8)}, do_compression=True)
    monkeypatch.setattr(_arrays, "pieces", lambda *told: pytest.fail("read"))
    with pytest.raises(ValueError, match=r"images has the shape \(50, 50\); at most 100 values"):
        mat_numbers(path, ("images",), 100)
    for content in (b"", b"no .mat file", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"x"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.mat is no .mat file"):
            mat_numbers(path, ("images",), 100)


def read(path: Path) -> dict[str, np.ndarray]:
    return mat_numbers(path, list(variables(path)), 1_000_000)


@pytest.mark.parametrize("compressed", [True, False])
def test_mat_files_are_read_as_scipy_reads_them(compressed, tmp_path, monkeypatch):
    monkeypatch.setattr(_mat, "PIECE_BYTES", 96)
    rng = np.random.default_rng(0)
    kinds = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    given = {f"v{kind}": rng.integers(0, 100, (7, 5, 3)).astype(kind) for kind in kinds}
    given |= {"one": np.uint8([[3]]), "yes": np.array([[True, False]]), "none": np.zeros((0, 4))}
    scipy.io.savemat(tmp_path / "a.mat", given, do_compression=compressed)
    found, known = read(tmp_path / "a.mat"), scipy.io.loadmat(tmp_path / "a.mat")
    assert set(found) == set(given)
    for name, array in found.items():
        np.testing.assert_array_equal(array, known[name])
        assert array.dtype == known[name].dtype
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a.mat is (damaged|no .mat file that can be read): "):
        read(tmp_path / "a.mat")


def test_mat_files_of_the_other_byte_order(tmp_path):
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content.ljust(-(-len(content) // 8) * 8)

    inner = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 2, 3))
    inner += struct.pack(">HH4s", 1, 1, b"x") + element(3, np.arange(6, dtype=">i2").tobytes())
    (tmp_path / "a.mat").write_bytes(b"MATLAB".ljust(124) + b"\x01\x00MI" + element(14, inner))
    found = read(tmp_path / "a.mat")["x"]
    np.testing.assert_array_equal(found, [[0, 2, 4], [1, 3, 5]])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, scipy.io.loadmat(tmp_path / "a.mat")["x"])


def test_mat_files_that_lie_of_their_sizes(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"labs_ex": np.zeros((9, 9))}, do_compression=False)
    whole = path.read_bytes()
    size = whole.index(b"labs_ex") - 4
    long = whole[:size] + struct.pack("<I", 1 << 31) + whole[size + 4 :]
    shape = struct.pack("<ii", 9, 9)
    other = whole.replace(shape, struct.pack("<ii", 9, 8))
    less = whole.replace(shape, struct.pack("<ii", -9, 9))
    many = whole[:128] + whole[128:] * 1001
    flags, sizes = (
        whole.replace(struct.pack("<II", kind, 8), struct.pack("<II", kind, few), 1)
        for kind, few in ((6, 2), (5, 5))
    )
    for content in (long, other, less, many, flags, sizes, whole[:-1], whole[:140]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.mat is (damaged|no .mat file that can be read): "):
            read(path)


def test_labels_of_tfd_are_few(tmp_path):
    tfd_tree.save(tmp_path, {**tfd_tree.arrays(), "labs_ex": np.zeros((2500, 2001))})
    with pytest.raises(ValueError, match=r"labs_ex has the shape \(2500, 2001\); at most 5000000"):
        tfd.scan(tmp_path)


def test_tfd_reads_faces_from_anywhere(toronto, monkeypatch):
    monkeypatch.setattr(tfd, "TOGETHER", 3)
    faces = [tfd.scan(toronto, unlabelled=True).faces[row] for row in (39, 0, 7, 7, 20)]
    images = tfd_tree.arrays()["images"]
    for face, picture in zip(faces, tfd.read_pictures(faces[0].path, faces), strict=True):
        assert picture.shape == (48, 48, 3)
        np.testing.assert_array_equal(picture[..., 1], images[face.options["row"]])


def test_tfd_is_unpacked_once_for_each_copy(toronto, tmp_path, monkeypatch):
    source = tfd_tree.build(tmp_path / "copy")
    face = tfd.scan(source).faces[0]
    with monkeypatch.context() as patch:
        patch.setattr(tfd, "pieces", lambda *told: pytest.fail("unpacked again"))
        next(tfd.read_pictures(face.path, [face]))
    changed = 255 - tfd_tree.arrays()["images"]
    tfd_tree.save(source, {**tfd_tree.arrays(), "images": changed})
    os.utime(face.path, ns=(1, 1))
    picture = next(tfd.read_pictures(face.path, [face]))
    np.testing.assert_array_equal(picture[..., 0], changed[0])


@pytest.mark.parametrize(
    "name", ["affectnet", "fer2013", "ferplus", "mmi", "rafd", "rafdb", "sfew", "tfd"]
)
def test_a_wrong_source_is_one_clear_line(name, tmp_path):
    for source in [None, tmp_path / "nowhere", write(tmp_path / "file.txt", ""), tmp_path]:
        with pytest.raises(ValueError) as caught:
            corpora.scan(name, source, {})
        assert "\n" not in str(caught.value)
        assert source is None or str(source) in str(caught.value)

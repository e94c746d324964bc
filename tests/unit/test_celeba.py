"""CelebA: lists of two deliveries, pictures aligned and not, what is missing or too much."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_service import corpora
from data_service.alignment.align import as_delivered, warp
from data_service.corpora import celeba
from data_service.rows import Recipe, RowMaker
from tests.corpora import celeba as tree
from tests.corpora.pictures import write


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tree.build(tmp_path_factory.mktemp("celeba"))


def test_aligned_pictures_have_all_that_the_lists_tell(source):
    scan = corpora.scan("celeba", source, {})
    assert len(scan.faces) == tree.PICTURES - 1
    first = scan.faces[0]
    assert first.name == "Img/img_align_celeba/000001.jpg"
    assert first.path == source / first.name
    assert (first.subject, first.split, first.expression) == ("9000", "train", None)
    assert list(first.attributes) == tree.NAMES
    assert [face.attributes["Smiling"] for face in scan.faces[:4]] == [0, 1, 0, 1]
    assert first.attributes["5_o_Clock_Shadow"] == 1 and set(first.attributes.values()) == {0, 1}
    np.testing.assert_array_equal(
        first.landmarks_L3, np.c_[np.reshape(tree.ALIGNED, (5, 2)), np.ones(5)]
    )
    assert {one.name: one.reason for one in scan.rejected} == {
        "000006.jpg": "file missing",
        "000007.png": "listed twice",
        "extra.jpg": "not listed",
    }


def test_pictures_as_found_have_their_own_points(source):
    scan = celeba.scan(source, images="wild")
    first = scan.faces[0]
    assert len(scan.faces) == tree.PICTURES and not scan.rejected
    assert first.name == "Img/img_celeba/000001.jpg"
    assert first.landmarks_L3 is not None
    assert first.landmarks_L3[0].tolist() == [79, 121, 1]
    assert scan.aligned and first.options["box"] == [50, 30, 96, 96]


def test_pictures_as_found_show_what_lies_around_the_box(source):
    scan = celeba.scan(source, images="wild")
    recipe = Recipe(corpus="celeba", image_size=48, channels=1, aligned=scan.aligned)
    table, rejected = RowMaker(recipe).rows(scan.faces[:2])
    assert not rejected and table["alignment"].to_pylist() == ["box"] * 2
    scale = 48 / (1.3 * 96)
    expected = [scale, 0, 23.5 - scale * 97.5, 0, scale, 23.5 - scale * 77.5]
    np.testing.assert_allclose(table["crop_matrix"][0].as_py(), expected, rtol=1e-5)


def test_pictures_as_found_are_cut_out_at_any_size():
    """Also where the lake's faces are as large as the pictures."""
    image_HW3 = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    placed = as_delivered(image_HW3, side=64, box_4=[10, 20, 32, 20])
    assert placed.alignment == "box"
    np.testing.assert_array_equal(placed.image_SS3, warp(image_HW3, placed.matrix_23, 64))
    assert not np.array_equal(placed.image_SS3, image_HW3)


@pytest.mark.parametrize(
    "box", ["900 30 96 96", "50 30 0 96", "-96 30 96 96"], ids=["beyond", "flat", "before"]
)
def test_pictures_as_found_without_a_box_of_theirs_are_flagged(source, tmp_path, box):
    shutil.copytree(source, tmp_path / "copy")
    (tmp_path / "copy/Anno/list_bbox_celeba.txt").write_text(f"000001.jpg {box}\n")
    faces = celeba.scan(tmp_path / "copy", images="wild").faces[:2]
    made = RowMaker(Recipe(corpus="celeba", image_size=50, channels=1, aligned=True)).rows(faces)
    assert made[0]["alignment"].to_pylist() == ["centre"] * 2


def test_pictures_as_found_need_the_list_of_boxes(source, tmp_path):
    shutil.copytree(source, tmp_path / "copy")
    (tmp_path / "copy/Anno/list_bbox_celeba.txt").unlink()
    with pytest.raises(ValueError, match=r"no list_bbox_celeba.txt or .csv in .*images=wild"):
        celeba.scan(tmp_path / "copy", images="wild")
    assert celeba.scan(tmp_path / "copy").faces


def test_counts_stand_beside_those_of_the_whole_corpus(source):
    found = corpora.counts(celeba.scan(source).faces)
    assert set(celeba.EXPECTED) <= set(found)
    assert found["split/train"] == 7 and found["split/validation"] == found["split/test"] == 8
    assert found["subjects"] == tree.PICTURES / 2
    parts = [number for key, number in celeba.EXPECTED.items() if key.startswith("split/")]
    assert sum(parts) == celeba.EXPECTED["faces"]


def test_tables_with_commas_tell_the_same(source, tmp_path):
    """The delivery on Kaggle: a folder in a folder of the same name, no identities."""
    text = (source / "Anno" / "list_attr_celeba.txt").read_text().split("\n")
    rows = [row.split() for row in text[2:] if row]
    lines = [["image_id", *tree.NAMES], *rows]
    write(tmp_path / "list_attr_celeba.csv", "\n".join(",".join(line) for line in lines) + "\n")
    parts = [f"{row[0]},{index % 3}" for index, row in enumerate(rows)]
    write(tmp_path / "list_eval_partition.csv", "image_id,partition\n" + "\n".join(parts))
    for row in rows:
        write(tmp_path / "img_align_celeba" / "img_align_celeba" / row[0], b"picture")
    scan = celeba.scan(tmp_path)
    expected = celeba.scan(source)
    by_name = {face.name.rpartition("/")[2]: face for face in scan.faces}
    for face in expected.faces:
        assert dict(by_name[Path(face.name).name].attributes) == dict(face.attributes)
    assert [face.split for face in scan.faces[:3]] == ["train", "validation", "test"]
    assert {face.subject for face in scan.faces} == {None}
    assert {face.landmarks_L3 is None for face in scan.faces} == {True}
    assert "subjects" not in corpora.counts(scan.faces)


def test_png_delivery_of_the_aligned_pictures(source, tmp_path):
    write(
        tmp_path / "Anno" / "list_attr_celeba.txt",
        "1\n" + " ".join(tree.NAMES) + "\n000001.jpg " + "1 " * 40,
    )
    write(tmp_path / "Img" / "img_align_celeba_png" / "000001.png", b"picture")
    assert celeba.scan(tmp_path).faces[0].name == "Img/img_align_celeba_png/000001.png"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Eval/list_eval_partition.txt", "000001.jpg 3\n", "000001.jpg: part 3; valid: 0 train, 1"),
        (
            "Eval/list_eval_partition.txt",
            "000001.jpg\n000002.jpg 0",
            "line 1: valid: a picture",
        ),
        ("Anno/identity_CelebA.txt", "000001.jpg x7\n", "line 1: valid: a picture and 1 whole"),
        ("Anno/identity_CelebA.txt", "1.jpg 7\n1.jpg 8\n", "line 2: 1.jpg is listed twice"),
        ("Anno/list_attr_celeba.txt", "1\nSmiling Young\n1.jpg 1 5\n", "attribute value 5; valid:"),
        (
            "Anno/list_attr_celeba.txt",
            "1\nSmiling Young\n1.jpg 1\n",
            "line 3: valid: a picture and",
        ),
    ],
)
def test_a_wrong_list_is_told_with_file_and_line(tmp_path, file, text, message):
    write(tmp_path / "Img" / "img_align_celeba" / "000001.jpg", b"picture")
    write(tmp_path / "Anno" / "list_attr_celeba.txt", "1\nSmiling Young\n000001.jpg 1 -1\n")
    path = write(tmp_path / file, text)
    with pytest.raises(ValueError, match=message) as caught:
        celeba.scan(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_indispensable_is_named(tmp_path, source):
    with pytest.raises(ValueError, match="no folder img_align_celeba or img_align_celeba_png in"):
        celeba.scan(tmp_path)
    write(tmp_path / "img_align_celeba" / "000001.jpg", b"picture")
    with pytest.raises(ValueError, match=r"no list_attr_celeba.txt or .csv in"):
        celeba.scan(tmp_path)
    with pytest.raises(ValueError, match="option images 'raw' of celeba; valid: aligned, wild"):
        celeba.scan(source, images="raw")

"""FER2013 and FER+: pixels out of a table, codes, votes, and tables that do not fit together."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_service import corpora
from data_service.alignment.decode import UnreadableImageError, grey
from data_service.corpora import fer2013, ferplus
from data_service.corpora.ferplus import decide, without_slips
from data_service.schema import Expression
from tests.corpora import fer2013 as tree
from tests.corpora import ferplus as plus
from tests.corpora.pictures import face, write


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return tree.build(tmp_path_factory.mktemp("fer2013"))


@pytest.fixture(scope="module")
def voted(tmp_path_factory) -> Path:
    return plus.build(tmp_path_factory.mktemp("ferplus"))


def reasons(scan) -> Counter:
    return Counter(one.reason for one in scan.rejected)


def test_rows_have_code_split_and_pixels(table):
    scan = corpora.scan("fer2013", table, {})
    assert scan.aligned and len(scan.faces) == tree.ROWS + 2
    assert Counter(one.split for one in scan.faces) == {"train": 26, "validation": 6, "test": 6}
    number, code, _ = list(tree.listed())[5]
    one = scan.faces[5]
    assert (one.name, one.expression) == ("fer2013/00005", fer2013.CODES[code])
    [picture] = fer2013.read_pictures(one.path, [one])
    np.testing.assert_array_equal(
        picture, np.repeat(grey(face(number, fer2013.CODES[code], size=48)), 3, axis=2)
    )


def test_blank_and_short_pictures_are_refused_by_themselves(table):
    faces = fer2013.scan(table).faces
    last = list(fer2013.read_pictures(faces[0].path, faces))[-3:]
    assert isinstance(last[0], np.ndarray)
    told = [(one.reason, one.detail) for one in last if isinstance(one, UnreadableImageError)]
    assert told == [("blank picture", ""), ("damaged pixels", "3 of 2304")]


def test_columns_may_stand_in_another_order(table, tmp_path):
    one, other = fer2013.scan(table), fer2013.scan(tree.build_other(tmp_path))
    for left, right in zip(one.faces, other.faces):
        assert (left.expression, left.split) == (right.expression, right.split)
        pictures = [next(fer2013.read_pictures(x.path, [x])) for x in (left, right)]
        np.testing.assert_array_equal(*pictures)


def test_folders_have_no_validation_part(tmp_path):
    scan = fer2013.scan(tree.build_folders(tmp_path))
    assert Counter(one.split for one in scan.faces) == {"train": 24, "test": 12}
    assert scan.expected["split/test"] == 7178
    assert {one.path.suffix for one in scan.faces} == {".png"}


def moved(part: Path, name: str) -> Path:
    """A copy of a part beside it."""
    return shutil.copytree(part, part.with_name(name))


@pytest.mark.parametrize("name", fer2013.VALIDATION)
def test_folders_may_have_a_validation_part(name, tmp_path):
    source = tree.build_folders(tmp_path)
    moved(source / "test", name)
    scan = corpora.scan("fer2013", source, {})
    assert Counter(one.split for one in scan.faces) == {"train": 24, "test": 12, "validation": 12}
    assert scan.expected == fer2013.EXPECTED and not scan.rejected


def test_folders_beside_the_parts_are_told(tmp_path):
    source = tree.build_folders(tmp_path)
    whole = corpora.scan("fer2013", source, {})
    for name in ("val", "valid", "held out"):
        moved(source / "test", name)
    (source / "link").symlink_to(source / "test")
    write(source / "README.txt", "read")
    scan = corpora.scan("fer2013", source, {})
    assert scan.faces == whole.faces
    assert reasons(scan) == {
        "in no known part": 3 * 12,
        "in no folder of a part": 1,
        "link to a folder": 1,
    }
    assert {one.detail for one in scan.rejected} == {"taken: test, train"}


def test_of_the_challenges_tables_the_one_with_labels_is_taken(table, tmp_path):
    scan = corpora.scan("fer2013", tree.build_challenge(tmp_path), {})
    assert Counter(one.split for one in scan.faces) == {"train": 24}
    assert scan.expected == {"faces": 28_709, "split/train": 28_709} and scan.aligned
    told = [(one.name, one.reason, one.detail) for one in scan.rejected]
    assert told == [
        ("test.csv", "labels withheld", "columns pixels"),
        ("example_submission.csv", "not listed", "train.csv"),
    ]
    same = [one for one in fer2013.scan(table).faces if one.split == "train"]
    for mine, whole in zip(scan.faces, same, strict=False):
        assert mine.expression == whole.expression
        pictures = [next(fer2013.read_pictures(one.path, [one])) for one in (mine, whole)]
        np.testing.assert_array_equal(*pictures)


def test_a_test_part_with_labels_is_taken_and_a_missing_one_is_no_fault(tmp_path):
    source = tree.build_challenge(tmp_path)
    shutil.copyfile(source / "train.csv", source / "test.csv")
    scan = fer2013.scan(source)
    assert Counter(one.split for one in scan.faces) == {"train": 24, "test": 24}
    assert scan.expected == fer2013.EXPECTED_FOLDERS
    assert list(reasons(scan)) == ["not listed"]
    (source / "test.csv").unlink()
    assert len(fer2013.scan(source).faces) == 24
    (source / "train.csv").unlink()
    with pytest.raises(ValueError, match=r"neither fer2013.csv nor icml_.*.csv nor train.csv nor"):
        fer2013.scan(source)


def test_beside_the_whole_table_the_others_are_told(table, tmp_path):
    source = tree.build_other(tree.build_challenge(tmp_path))
    scan = fer2013.scan(source)
    assert len(scan.faces) == tree.ROWS
    assert {one.name for one in scan.rejected} == {
        "example_submission.csv",
        "test.csv",
        "train.csv",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "emotion,pixels\n0,1 2\n",
            r"line 1: header 'emotion,pixels'; valid: emotion,pixels",
        ),
        ("emotion,pixels,Usage\n7,1 2,Training\n", r"line 2: unknown emotion '7'; valid: 0 anger"),
        ("emotion,pixels,Usage\n1,1 2,Test\n", r"line 2: unknown Usage 'Test'; valid: Training, P"),
        ("emotion,pixels,Usage\n1,1 2\n", r"line 2: 2 columns; valid: emotion,pixels,Usage"),
        pytest.param(
            f"emotion,pixels,Usage\n{'7' * 5000},1 2,Training\n",
            r"line 2: unknown emotion '7{40}'; valid: 0 anger",
            id="a code of 5,000 digits",
        ),
    ],
)
def test_a_wrong_table_is_told_with_file_and_line(text, message, tmp_path):
    write(tmp_path / "fer2013.csv", text)
    with pytest.raises(ValueError, match=message) as caught:
        fer2013.scan(tmp_path)
    assert str(tmp_path / "fer2013.csv") in str(caught.value)


def test_majority_keeps_what_more_than_half_agree_on(voted):
    scan = ferplus.scan(voted)
    assert reasons(scan) == {"no face": 1, "votes disagree": 2, "voted unknown or no face": 1}
    assert len(scan.faces) == tree.ROWS + 2 - 4
    code = {f"fer2013/{at:05d}": row[1] for at, row in enumerate(tree.listed())}
    for one in scan.faces[:20]:
        assert one.expression == fer2013.CODES[code[one.name]]
        assert one.votes[str(one.expression)] == 7 and sum(one.votes.values()) == 9
    assert {one.split for one in scan.faces} == {"train", "validation", "test"}


def test_soft_labels_keep_torn_votes(voted):
    scan = corpora.scan("ferplus", voted, {"labels": "soft"})
    assert reasons(scan) == {"no face": 1, "votes disagree": 1, "voted unknown or no face": 1}
    [torn] = [one for one in scan.faces if max(one.votes.values()) == 4]
    assert sorted(torn.votes.values()) == [3, 3, 4] and torn.votes[str(torn.expression)] == 4
    with pytest.raises(ValueError, match="option labels 'hard' of corpus ferplus; valid: majority"):
        corpora.scan("ferplus", voted, {"labels": "hard"})


@pytest.mark.parametrize("labels", [True, False])
def test_the_generators_pictures_have_the_same_votes(labels, voted, tmp_path):
    scan = ferplus.scan(plus.build_generated(tmp_path, labels=labels))
    assert reasons(scan) == {"votes disagree": 2, "voted unknown or no face": 1}
    assert all(one.path.is_file() and one.path.parent.name in one.name for one in scan.faces)
    by_split = Counter((one.split, one.expression) for one in scan.faces)
    tables = Counter((one.split, one.expression) for one in ferplus.scan(voted).faces)
    assert sum((by_split - tables).values()) == 1  # the row that the tables say shows no face


def test_parts_without_a_list_are_told(tmp_path):
    source = plus.build_generated(tmp_path)
    whole = corpora.scan("ferplus", source, {})
    (source / "FER2013Valid" / "label.csv").unlink()
    write(source / "FER2013Test" / "label.csv", "")
    moved(source / "FER2013Test", "FER2013Extra")
    scan = corpora.scan("ferplus", source, {})
    assert scan.faces == tuple(one for one in whole.faces if one.split == "train")
    told = Counter((Path(one.name).parent.name, one.reason) for one in scan.rejected)
    assert told - Counter(("FER2013Train", one.reason) for one in whole.rejected) == {
        ("FER2013Valid", "no label list"): 6,
        ("FER2013Test", "not listed"): 6,
        ("FER2013Extra", "in no known part"): 6,
    }


def test_a_part_without_votes_in_the_table_is_told(tmp_path):
    source = plus.build_generated(tmp_path, labels=False)
    table = source / "fer2013new.csv"
    lines = [line for line in table.read_text().splitlines() if not line.startswith("PublicTest")]
    write(table, "\n".join(lines))
    scan = corpora.scan("ferplus", source, {})
    assert {one.split for one in scan.faces} == {"train", "test"}
    assert reasons(scan)["no label list"] == 6


def test_a_byte_order_mark_costs_no_picture(tmp_path):
    source = plus.build_generated(tmp_path)
    names = [face.name for face in ferplus.scan(source).faces]
    table = source / "FER2013Train" / "label.csv"
    write(table, b"\xef\xbb\xbf" + table.read_bytes())
    assert [face.name for face in ferplus.scan(source).faces] == names


@pytest.mark.parametrize("labels", [True, False])
def test_a_picture_that_is_listed_twice_is_one_face(labels, tmp_path):
    source = plus.build_generated(tmp_path, labels=labels)
    once = ferplus.scan(source)
    table = source / ("FER2013Train/label.csv" if labels else "fer2013new.csv")
    lines = table.read_text().splitlines()
    write(table, "\n".join([*lines, lines[1]]))
    scan = ferplus.scan(source)
    assert [face.name for face in scan.faces] == [face.name for face in once.faces]
    assert reasons(scan) - reasons(once) == Counter({"listed twice": 1})


def test_tables_that_do_not_fit_are_refused(voted, tmp_path):
    votes = (voted / "fer2013" / "fer2013new.csv").read_text().splitlines()
    pixels = (voted / "fer2013" / "fer2013.csv").read_bytes()
    write(tmp_path / "fer2013.csv", pixels)
    new = tmp_path / "fer2013new.csv"
    write(new, "\n".join(votes[:-1]))
    with pytest.raises(ValueError, match=r"fer2013new.csv has 37 rows, .*fer2013.csv has 38"):
        ferplus.scan(tmp_path)
    write(new, "\n".join([votes[0], votes[-5], *votes[2:-5], votes[1], *votes[-4:]]))
    with pytest.raises(ValueError, match=r"line 2: not the Usage of .*fer2013.csv, line 2"):
        ferplus.scan(tmp_path)
    write(new, "\n".join([*votes[:2], votes[2].replace(",7,", ",x,"), *votes[3:]]))
    with pytest.raises(ValueError, match=r"line 3: votes .*x.*; valid: 10 numbers"):
        ferplus.scan(tmp_path)


def test_votes_in_another_order_than_the_pixels_are_refused(tmp_path):
    lines, rows = [plus.HEADER], ["emotion,pixels,Usage"]
    for number in range(70):
        rows.append(f"{number % 7},1 2,Training")
        shifted = plus.votes((number + 1) % 7)
        lines.append(",".join(("Training", f"fer{number:07d}.png", *map(str, shifted))))
    write(tmp_path / "fer2013.csv", "\n".join(rows))
    write(tmp_path / "fer2013new.csv", "\n".join(lines))
    with pytest.raises(ValueError, match="same expression in 0 of 70 rows; their rows must be in"):
        ferplus.scan(tmp_path)


@pytest.mark.parametrize(
    ("votes", "majority", "soft"),
    [
        ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], Expression.NEUTRAL, Expression.NEUTRAL),
        ([0, 5, 5, 0, 0, 0, 0, 0, 0, 0], "votes disagree", Expression.HAPPINESS),
        ([0, 5, 1, 1, 1, 1, 1, 0, 0, 0], Expression.HAPPINESS, Expression.HAPPINESS),
        ([0, 5, 0, 0, 0, 0, 0, 0, 5, 0], "votes disagree", "votes disagree"),
        ([0, 2, 2, 0, 0, 0, 0, 0, 3, 3], "votes disagree", "votes disagree"),
        ([0, 4, 0, 0, 0, 0, 0, 0, 0, 6], *["voted unknown or no face"] * 2),
        ([1] * 10, "votes disagree", "votes disagree"),
    ],
)
def test_votes_decide(votes, majority, soft):
    kept = without_slips(votes)
    assert decide(kept, "majority") == majority
    assert decide(kept, "soft") == soft

"""Folds: subjects are never torn, each is tested once, classes are balanced."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from data_service.folds import (
    make_folds,
    named_split,
    nested_fold,
    official_split,
    parse_fold,
)
from data_service.schema import Expression

NAMES = [str(expression) for expression in Expression]


def table(subjects, expressions, splits=None):
    ids = [f"{index:04d}" for index in range(len(subjects))]
    return pa.table(
        {
            "sample_id": ids,
            "subject": pa.array(subjects, pa.string()),
            "expression": pa.array(expressions, pa.string()),
            "split": pa.array(splits or [None] * len(ids), pa.string()),
        }
    )


tables = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 30).map("p{}".format)),
        st.one_of(st.none(), st.sampled_from(NAMES)),
    ),
    min_size=1,
    max_size=200,
).map(lambda rows: table(*map(list, zip(*rows))))


def subjects_of(rows, lake_table):
    subjects, ids = lake_table["subject"].to_pylist(), lake_table["sample_id"].to_pylist()
    return {subjects[row] or ids[row] for row in rows}


@settings(max_examples=60, deadline=None)
@given(lake_table=tables, num_folds=st.integers(2, 6), seed=st.integers(0, 9))
def test_subjects_are_tested_once_and_never_torn(lake_table, num_folds, seed):
    try:
        folds = make_folds(lake_table, num_folds, seed)
    except ValueError:
        reject()
    tested = np.concatenate([fold.test_rows for fold in folds])
    assert sorted(tested) == list(range(len(lake_table)))
    for number, fold in enumerate(folds, 1):
        parts = (fold.train_rows, fold.validation_rows, fold.test_rows)
        assert (fold.index, fold.num_folds) == (number, num_folds)
        assert all(len(rows) and (np.diff(rows) > 0).all() for rows in parts)
        assert sorted(np.concatenate(parts)) == list(range(len(lake_table)))
        named = [subjects_of(rows, lake_table) for rows in parts]
        assert sum(map(len, named)) == len(set.union(*named))


@settings(max_examples=25, deadline=None)
@given(lake_table=tables, order_seed=st.integers(0, 99))
def test_folds_follow_subjects_not_row_order(lake_table, order_seed):
    if len(subjects_of(range(len(lake_table)), lake_table)) < 5:
        return
    order = np.random.default_rng(order_seed).permutation(len(lake_table))
    for straight, shuffled in zip(
        make_folds(lake_table, 3, 1), make_folds(lake_table.take(order), 3, 1)
    ):
        for part in ("train_rows", "validation_rows", "test_rows"):
            back = np.sort(order[getattr(shuffled, part)])
            assert np.array_equal(back, getattr(straight, part))


def many(num_subjects, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, num_subjects)
    subjects = [f"p{who}" for who, size in enumerate(sizes) for _ in range(size)]
    weights = np.array([8, 1, 2, 2, 10, 10, 4, 5]) / 42
    return table(subjects, list(rng.choice(NAMES, len(subjects), p=weights)))


def shares(rows, lake_table):
    codes = [NAMES.index(lake_table["expression"][int(row)].as_py()) for row in rows]
    return np.bincount(codes, minlength=8)


def test_classes_are_balanced_over_folds():
    lake_table = many(300)
    total = shares(range(len(lake_table)), lake_table)
    for fold in make_folds(lake_table, 5):
        assert np.abs(shares(fold.test_rows, lake_table) - total / 5).max() <= 3
        rest = len(fold.train_rows) + len(fold.validation_rows)
        assert 0.10 <= len(fold.validation_rows) / rest <= 0.15
        expected = (total - shares(fold.test_rows, lake_table)) / 8
        assert np.abs(shares(fold.validation_rows, lake_table) - expected).max() <= 3


def test_single_faces_are_dealt_evenly():
    lake_table = table([None] * 103, ["fear"] * 51 + ["anger"] * 52)
    for fold in make_folds(lake_table, 5):
        counts = shares(fold.test_rows, lake_table)
        assert {counts[0], counts[3]} <= {10, 11}
        assert abs(len(fold.test_rows) - 103 / 5) <= 1


def test_the_seed_and_the_hash():
    lake_table = many(60)
    first = [fold.hash for fold in make_folds(lake_table, 4, seed=1)]
    assert first == [fold.hash for fold in make_folds(lake_table, 4, seed=1)]
    assert len(set(first)) == 4
    assert not set(first) & {fold.hash for fold in make_folds(lake_table, 4, seed=2)}


def test_only_the_chosen_classes():
    lake_table = many(60)
    classes = (Expression.FEAR, Expression.ANGER)
    rows = np.flatnonzero(np.isin(lake_table["expression"].to_pylist(), ["fear", "anger"]))
    for fold in make_folds(lake_table, 3, classes=classes):
        parts = (fold.train_rows, fold.validation_rows, fold.test_rows)
        assert np.array_equal(np.sort(np.concatenate(parts)), rows)


@settings(max_examples=40, deadline=None)
@given(lake_table=tables, num_folds=st.integers(2, 6))
def test_of_all_subjects_each_validates_once_and_none_is_tested(lake_table, num_folds):
    try:
        folds = [
            named_split(lake_table, f"all:{index}/{num_folds}", None)
            for index in range(1, num_folds + 1)
        ]
    except ValueError:
        reject()
    validated = np.concatenate([fold.validation_rows for fold in folds])
    assert sorted(validated) == list(range(len(lake_table)))
    for fold in folds:
        assert not len(fold.test_rows)
        both = np.concatenate([fold.train_rows, fold.validation_rows])
        assert sorted(both) == list(range(len(lake_table)))
        named = [subjects_of(rows, lake_table) for rows in (fold.train_rows, fold.validation_rows)]
        assert not set.intersection(*named)


def test_inner_folds_never_see_the_outer_folds_test_subjects():
    lake_table = table([f"p{row // 3}" for row in range(120)], ["fear", "anger", "neutral"] * 40)
    outer = make_folds(lake_table, 4)[1]
    inner = [nested_fold(lake_table, outer, (index, 5)) for index in range(1, 6)]
    known = sorted(np.concatenate([outer.train_rows, outer.validation_rows]))
    assert sorted(np.concatenate([fold.validation_rows for fold in inner])) == known
    for fold in inner:
        assert list(fold.test_rows) == list(outer.test_rows)
        assert sorted(np.concatenate([fold.train_rows, fold.validation_rows])) == known
        parts = (fold.train_rows, fold.validation_rows, fold.test_rows)
        named = [subjects_of(rows, lake_table) for rows in parts]
        assert sum(map(len, named)) == len(set.union(*named)) == 40


def test_inner_folds_of_the_official_split_never_see_its_test_faces():
    splits = ["train"] * 60 + ["test"] * 30 + [None] * 30
    subjects, classes = [f"p{row // 3}" for row in range(120)], ["fear", "anger", "neutral"] * 40
    lake_table = table(subjects, classes, splits)
    inner = [named_split(lake_table, f"official:{index}/5", None) for index in range(1, 6)]
    assert sorted(np.concatenate([fold.validation_rows for fold in inner])) == list(range(60))
    for fold in inner:
        assert list(fold.test_rows) == list(range(60, 90))
        assert sorted([*fold.train_rows, *fold.validation_rows]) == list(range(60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11/10", "1/10 to 10/10 are valid"),
        ("0/10", "1/10 to 10/10 are valid"),
        ("1/1", "at least 2 folds"),
        ("three", "as in 3/10"),
        ("-1/5", "as in 3/10"),
    ],
)
def test_a_wrong_fold_says_what_is_valid(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_fold(text)
    assert "\n" not in str(caught.value)


def test_a_fold_is_parsed():
    assert parse_fold("3/10") == (3, 10)


def test_too_few_subjects():
    with pytest.raises(ValueError, match="at least 6 subjects; the chosen rows have 2"):
        make_folds(table(["a", "b", "b"], ["fear"] * 3), 5)


def test_the_official_split():
    splits = ["train"] * 16 + ["test"] * 4 + [None]
    lake_table = table(
        [f"p{row // 2}" for row in range(21)], ["fear", "anger"] * 10 + ["fear"], splits
    )
    fold = official_split(lake_table)
    assert list(fold.test_rows) == [16, 17, 18, 19]
    assert len(fold.validation_rows) == 2 and len(fold.train_rows) == 14
    named = table([None] * 3, ["fear"] * 3, ["train", "validation", "test"])
    assert [
        list(rows)
        for rows in (official_split(named).train_rows, official_split(named).validation_rows)
    ] == [[0], [1]]
    torn = official_split(
        table(["a", "b", "a", "c"], ["fear"] * 4, ["train", "train", "test", "train"])
    )
    assert list(torn.test_rows) == [2]
    assert sorted([*torn.train_rows, *torn.validation_rows]) == [0, 1, 3]
    with pytest.raises(ValueError, match="no row is marked 'test'"):
        official_split(table(["a", "b"], ["fear"] * 2, ["train", "train"]))


def test_frames_of_a_clip_stay_together_where_nobody_knows_the_subject():
    clips = [f"film_{row // 4}" for row in range(60)]
    faces = table([None] * 60, ["fear", "anger"] * 30, ["train"] * 48 + ["test"] * 12)
    faces = faces.append_column("sequence", pa.array(clips))
    for fold in (official_split(faces), *make_folds(faces, 4)):
        parts = (fold.train_rows, fold.validation_rows, fold.test_rows)
        named = [{clips[row] for row in rows} for rows in parts]
        assert all(named) and sum(map(len, named)) == 15


@pytest.mark.parametrize(
    ("corpus", "tested"),
    [("ckplus", [0, 10, 20]), ("oulu_casia", [0, 1, 2]), ("photos", None), ("gone", None)],
)
def test_the_rule_of_the_literature_divides_a_corpus(corpus, tested):
    subjects = [f"S{number:03d}" for number in range(30) for _ in range(3)]
    faces = table(subjects, ["anger", "fear", "neutral"] * 30)
    faces = faces.append_column("corpus", pa.array([corpus] * len(faces)))
    folds = make_folds(faces, 10)
    assert {len(subjects_of(fold.test_rows, faces)) for fold in folds} == {3}
    assert sum(len(fold.test_rows) for fold in folds) == len(faces)
    found = [int(name[1:]) for name in sorted(subjects_of(folds[0].test_rows, faces))]
    assert (found == tested) == (tested is not None)
    for fold in folds:
        sides = [fold.train_rows, fold.validation_rows, fold.test_rows]
        named = [subjects_of(rows, faces) for rows in sides]
        assert all(named) and sum(map(len, named)) == 30

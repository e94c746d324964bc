"""Verdicts among many rows: what is far behind is said to be, near rows are ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.scorecard import statistics
from trainer.scorecard.intervals import paired_error
from trainer.scorecard.statistics import METRICS, Interval
from tuning import ranking
from tuning.ranking import LEAST_SWAPS, _difference, judged, ordered
from tuning.rows import Pair, Row

NUM_SUBJECTS, NUM_FACES = 40, 10
RECALL = METRICS["macro_recall"]


def recognised(wrong_S: np.ndarray) -> np.ndarray:
    """Confusion matrices [S, 2, 2] of ten faces of each class, so many of either misread."""
    right_S = NUM_FACES - wrong_S
    return np.stack([np.stack([right_S, wrong_S], -1), np.stack([wrong_S, right_S], -1)], 1) * 1.0


def row(number: int, counts_SKK: np.ndarray) -> Row:
    value = float(RECALL(counts_SKK.sum(axis=0)))
    recall = Interval(value=value, low=value, high=value)
    about = {"kind": "train", "run_ids": (str(number),), "folds": ("1/5",), "seeds": ("0",)}
    aims = ("macro_recall",)
    return Row(system=f"system{number}", macro_recall=recall, objectives=aims, **about)


def ranked(counts: list[np.ndarray]) -> tuple[tuple[Row, ...], tuple[Pair, ...]]:
    rows = ordered([row(number, own) for number, own in enumerate(counts)])
    return judged(rows, [counts[int(row.run_ids[0])] for row in rows], 0)


def near(generator: np.random.Generator, base_S: np.ndarray, subjects: int) -> np.ndarray:
    """As many misread as in `base_S`, but for one face more or less of some subjects."""
    near_S = base_S.copy()
    chosen = generator.choice(NUM_SUBJECTS, subjects, replace=False)
    near_S[chosen] += generator.integers(-1, 2, subjects)
    return recognised(near_S)


def test_of_sixty_rows_one_that_is_far_behind_is_told_apart_and_near_ones_are_ties():
    generator = np.random.default_rng(0)
    base_S = generator.integers(1, 4, NUM_SUBJECTS)
    counts = [near(generator, base_S, 4) for _ in range(59)]
    counts.append(recognised(base_S + 4))
    rows, pairs = ranked(counts)
    assert [one.verdict for one in rows] == ["best", *["tie"] * 58, "behind"]
    assert [one.rank for one in rows] == list(range(1, 61))
    assert rows[-1].system == "system59" and rows[-1].p is not None and rows[-1].p < 0.01
    assert len(pairs) == 12 * 11 // 2


@pytest.mark.parametrize("num_rows", [5, 30])
def test_a_verdict_and_its_pair_are_one_test(num_rows: int):
    """Rows worse by steps, so that some p lie near the bound."""
    generator = np.random.default_rng(1)
    base_S = generator.integers(1, 4, NUM_SUBJECTS)
    steps = np.arange(num_rows) * 2
    counts = [near(generator, base_S + (np.arange(NUM_SUBJECTS) < step), 8) for step in steps]
    rows, pairs = ranked(counts)
    with_best = [pair for pair in pairs if pair.first == 0]
    assert [pair.second for pair in with_best] == list(range(1, min(num_rows, 12)))
    for pair in with_best:
        other = rows[pair.second]
        assert (pair.difference, pair.p) == (other.behind, other.p)
        assert other.verdict == ("behind" if pair.told_apart else "tie")
    if num_rows == 30:
        assert {pair.told_apart for pair in with_best} == {True, False}


def test_pairs_are_corrected_for_all_rows_and_not_for_the_first_twelve_alone():
    generator = np.random.default_rng(2)
    base_S = generator.integers(1, 4, NUM_SUBJECTS)
    worse_S = base_S + (np.arange(NUM_SUBJECTS) < 12)
    few = [recognised(base_S), recognised(worse_S)]
    many = few + [recognised(base_S + 5)] * 40
    (alone,), among = ranked(few)[1], ranked(many)[1][0]
    assert alone.told_apart and alone.difference.value == among.difference.value
    assert not among.told_apart, "there are 861 pairs, of which 65 are tested and further apart"
    assert among.p >= min(1.0, (861 - 110) * among.difference.p)


def test_rows_without_predictions_are_rivals_without_a_verdict():
    base_S = np.full(NUM_SUBJECTS, 2)
    counts = [recognised(base_S), recognised(base_S + (np.arange(NUM_SUBJECTS) < 9))]
    rows = ordered([row(number, own) for number, own in enumerate(counts)])
    bare = [replace(rows[1], run_ids=(str(i),), rank=3 + i) for i in range(20)]
    alone, _ = judged(rows, counts, 0)
    among, pairs = judged([*rows, *bare], [*counts, *[None] * 20], 0)
    assert [one.verdict for one in among] == ["best", "tie", *[""] * 20]
    assert alone[1].verdict == "behind" and alone[1].p is not None
    (pair,) = pairs
    assert pair.p == pytest.approx(pair.difference.p * 22 * 21 / 2)


def test_p_goes_on_below_the_least_of_the_swaps_and_not_below_what_the_subjects_allow():
    generator = np.random.default_rng(0)
    base_S = generator.integers(0, 3, NUM_SUBJECTS)
    worse_S = base_S + generator.integers(1, 5, NUM_SUBJECTS)
    found = _difference(recognised(base_S), recognised(worse_S), RECALL, LEAST_SWAPS, 0)
    assert 2.0 ** (1 - NUM_SUBJECTS) <= found.p < 1e-6
    few = slice(0, 12)
    found = _difference(recognised(base_S[few]), recognised(worse_S[few]), RECALL, LEAST_SWAPS, 0)
    assert 2.0**-11 <= found.p <= 0.01
    value, error, _ = paired_error(recognised(base_S), recognised(worse_S), RECALL)
    assert value / error > 10


def test_more_swaps_are_tried_only_where_they_can_tell_more(monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []

    def swap_test(*given: object, num_swaps: int, **about: object) -> float:
        tried.append(num_swaps)
        return 0.002

    monkeypatch.setattr(statistics, "swap_test", swap_test)
    base_S = np.full(NUM_SUBJECTS, 2)
    for worse, calls in ((1, 0), (10, 1), (NUM_SUBJECTS, 0)):
        tried.clear()
        other = recognised(base_S + (np.arange(NUM_SUBJECTS) < worse))
        found = _difference(recognised(base_S), other, RECALL, ranking.MOST_SWAPS, 0)
        assert tried == [ranking.MOST_SWAPS] * calls
        assert (found.p == 0.002) == bool(calls)

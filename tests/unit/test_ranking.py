"""Verdicts among many rows: what is far behind is said to be, near rows are ties."""

from __future__ import annotations

import numpy as np

from trainer.scorecard.intervals import paired_error
from trainer.scorecard.statistics import METRICS, Interval
from tuning.ranking import LEAST_SWAPS, _difference, ranked
from tuning.rows import Row

NUM_SUBJECTS, NUM_FACES = 40, 10


def recognised(wrong_S: np.ndarray) -> np.ndarray:
    """Confusion matrices [S, 2, 2] of ten faces of each class, so many of either misread."""
    right_S = NUM_FACES - wrong_S
    return np.stack([np.stack([right_S, wrong_S], -1), np.stack([wrong_S, right_S], -1)], 1) * 1.0


def row(number: int, counts_SKK: np.ndarray) -> Row:
    value = float(METRICS["macro_recall"](counts_SKK.sum(axis=0)))
    recall = Interval(value=value, low=value, high=value)
    about = {"kind": "train", "run_ids": (str(number),), "folds": ("1/5",), "seeds": ("0",)}
    return Row(system=f"system{number}", macro_recall=recall, **about)


def test_of_sixty_rows_one_that_is_far_behind_is_told_apart_and_near_ones_are_ties():
    generator = np.random.default_rng(0)
    base_S = generator.integers(1, 4, NUM_SUBJECTS)
    counts = []
    for _ in range(59):
        near_S = base_S.copy()
        near_S[generator.choice(NUM_SUBJECTS, 4, replace=False)] += generator.integers(-1, 2, 4)
        counts.append(recognised(near_S))
    counts.append(recognised(base_S + 4))
    rows, pairs = ranked([row(i, own) for i, own in enumerate(counts)], counts, 0)
    assert [one.verdict for one in rows] == ["best", *["tie"] * 58, "behind"]
    assert [one.rank for one in rows] == list(range(1, 61))
    assert rows[-1].system == "system59" and rows[-1].p < 0.01
    assert len(pairs) == 12 * 11 // 2


def test_p_goes_on_below_the_least_of_the_swaps_and_not_below_what_the_subjects_allow():
    generator = np.random.default_rng(0)
    base_S = generator.integers(0, 3, NUM_SUBJECTS)
    worse_S = base_S + generator.integers(1, 5, NUM_SUBJECTS)
    found = _difference(recognised(base_S), recognised(worse_S), LEAST_SWAPS, 0)
    assert 2.0 ** (1 - NUM_SUBJECTS) <= found.p < 1e-6
    few = slice(0, 12)
    found = _difference(recognised(base_S[few]), recognised(worse_S[few]), LEAST_SWAPS, 0)
    assert 2.0**-11 <= found.p <= 0.01
    value, error, _ = paired_error(recognised(base_S), recognised(worse_S), METRICS["macro_recall"])
    assert value / error > 10

"""The mean over official splits: every split counts alike, every subject is one."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.scorecard.evaluate import Predictions
from trainer.scorecard.intervals import subject_intervals
from trainer.scorecard.official_folds import mean_over_folds
from trainer.scorecard.statistics import METRICS, accuracy


def said(num_faces: int, seed: int, subjects: str = "s") -> Predictions:
    """What is right for about two faces of three; four faces of each subject."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_faces) % 3
    wrong = (labels + generator.integers(1, 3, num_faces)) % 3
    read = np.where(generator.random(num_faces) < 0.7, labels, wrong)
    names = np.array([f"{subjects}{index // 4}" for index in range(num_faces)])
    return Predictions(
        rows=np.arange(num_faces), labels=labels, logits=np.eye(3)[read], subjects=names
    )


@pytest.mark.parametrize("name", METRICS)
def test_one_fold_is_as_on_the_scorecard(name: str) -> None:
    one = said(120, 0)
    assert mean_over_folds([one], METRICS[name]) == subject_intervals(one.confusions())[name]


@pytest.mark.parametrize("name", METRICS)
def test_small_folds_count_as_much_as_large_ones(name: str) -> None:
    folds = [said(size, seed, f"{seed} ") for seed, size in enumerate((24, 60, 240))]
    figures = [METRICS[name](one.confusions().sum(axis=0)) for one in folds]
    found = mean_over_folds(folds, METRICS[name])
    assert found.value == pytest.approx(np.mean(figures))
    assert found.low < found.value < found.high


def test_whom_several_folds_test_is_one_subject() -> None:
    """The same answers once more tell nothing new; those of other subjects do."""
    once, same, others = (
        mean_over_folds(folds, accuracy)
        for folds in (
            [said(120, 0)],
            [said(120, 0), said(120, 0)],
            [said(120, 0), said(120, 0, "others ")],
        )
    )
    assert (same.low, same.high) == pytest.approx((once.low, once.high), abs=0.01)
    assert others.high - others.low < 0.85 * (once.high - once.low)


def test_a_fold_of_one_subject_has_an_interval() -> None:
    found = mean_over_folds([said(4, 0, "alone "), said(120, 1)], accuracy)
    assert found.low < found.value < found.high

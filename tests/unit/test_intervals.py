"""Intervals over subjects, against simulation and against what is known."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.scorecard import intervals, statistics

NUM_CLASSES = 4


def simulated(generator, num_subjects, faces=8, skill=1.0, spread=1.0):
    """Labels, predictions and subjects; a subject's faces share a random difficulty."""
    subjects = np.repeat(np.arange(num_subjects), faces)
    labels = generator.integers(NUM_CLASSES, size=len(subjects))
    effect = generator.normal(0, spread, num_subjects)[subjects]
    right = generator.random(len(subjects)) < 1 / (1 + np.exp(-skill - effect))
    wrong = (labels + generator.integers(1, NUM_CLASSES, len(labels))) % NUM_CLASSES
    return labels, np.where(right, labels, wrong), subjects


def counts(labels, predicted, subjects):
    return statistics.confusion_by_subject(labels, predicted, subjects, NUM_CLASSES)


def test_intervals_cover_the_truth():
    truth = counts(*simulated(np.random.default_rng(2), 100_000)).sum(axis=0)
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        found = intervals.subject_intervals(counts(*simulated(generator, 15)))["macro_recall"]
        covered += found.low <= statistics.macro_recall(truth) <= found.high
    assert 0.93 <= covered / 300 <= 0.985


def test_few_subjects_with_many_faces_leave_few_degrees_of_freedom():
    generator = np.random.default_rng(10)
    sizes = np.array([40, 40, 30] + [2] * 100)
    subjects = np.repeat(np.arange(len(sizes)), sizes)
    labels = generator.integers(NUM_CLASSES, size=len(subjects))
    right = generator.random(len(subjects)) < np.where(subjects == 0, 0.2, 0.9)
    heavy = counts(labels, np.where(right, labels, (labels + 1) % NUM_CLASSES), subjects)
    assert intervals.degrees_of_freedom(heavy, statistics.accuracy) < 8
    even = counts(*simulated(generator, 100, spread=0.0))
    assert 90 < intervals.degrees_of_freedom(even, statistics.macro_recall) <= 99


def test_an_interval_of_independent_faces_is_that_of_a_proportion():
    right = np.arange(400) % 4 > 0
    single = counts(np.zeros(400, int), np.where(right, 0, 1), np.arange(400))
    found = intervals.subject_intervals(single)["accuracy"]
    half_width = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (found.high - found.low) / 2 == pytest.approx(half_width, rel=0.01)


def test_a_perfect_score_is_not_certain():
    perfect = counts(*[np.repeat(np.arange(20), 4) % NUM_CLASSES] * 2, np.repeat(np.arange(20), 4))
    found = intervals.subject_intervals(perfect)["accuracy"]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    one = intervals.subject_intervals(perfect[:1])["accuracy"]
    assert (one.low, one.high) == (0.0, 1.0)


def test_a_paired_difference_is_narrower_than_the_figures_themselves():
    generator = np.random.default_rng(5)
    labels, first, subjects = simulated(generator, 40, spread=2.0)
    second = np.where(generator.random(len(labels)) < 0.05, (labels + 1) % 4, first)
    a, b = counts(labels, first, subjects), counts(labels, second, subjects)
    difference = intervals.paired_difference(a, b, statistics.accuracy)
    alone = intervals.subject_intervals(a)["accuracy"]
    assert difference.low <= difference.value <= difference.high
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)
    assert difference.p < 0.05


def test_a_set_does_not_differ_from_itself():
    both = counts(*simulated(np.random.default_rng(6), 10))
    difference = intervals.paired_difference(both, both, statistics.macro_recall)
    assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("right", [0.25, 0.5])
def test_subjects_who_do_not_differ_leave_doubt(right: float) -> None:
    counts = np.tile([[4 * right, 4 * (1 - right)], [4 * (1 - right), 4 * right]], (6, 1, 1))
    found = intervals.subject_intervals(counts)["accuracy"]
    assert found.value == right and found.low < right - 0.1 and found.high > right + 0.1


def test_a_difference_that_all_subjects_share_is_as_sure_as_their_number() -> None:
    always, never = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    bounds = {}
    for number in (3, 5, 6, 20):
        pair = np.tile(always, (number, 1, 1)), np.tile(never, (number, 1, 1))
        found = intervals.paired_difference(*pair, statistics.accuracy)
        assert (found.value, found.high) == (1.0, 1.0)
        bounds[number] = found.low
    assert bounds[3] < bounds[5] < 0 < bounds[6] < bounds[20]


def test_shares_by_subject_leave_unknown_samples_out() -> None:
    hits = np.array([1, 0, 1, np.nan, 1, 1])
    found = intervals.share_by_subject(hits, np.array(["a", "a", "b", "b", "c", "c"]))
    assert found is not None and found.value == pytest.approx(4 / 5)
    assert 0 < found.low < 0.8 < found.high <= 1
    assert intervals.share_by_subject(np.full(3, np.nan), np.array(["a", "b", "c"])) is None
    perfect = intervals.share_by_subject(np.ones(8, bool), np.array([*"aabbccdd"]))
    assert perfect is not None and perfect.low == pytest.approx(0.025 ** (1 / 4))

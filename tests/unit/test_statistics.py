"""Metrics against scikit-learn; intervals and tests against simulation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics

from trainer.scorecard import attribute_scores, statistics

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


def test_metrics_are_those_of_scikit_learn():
    labels, predicted, subjects = simulated(np.random.default_rng(0), 30)
    pooled = counts(labels, predicted, subjects).sum(axis=0)
    assert np.array_equal(pooled, metrics.confusion_matrix(labels, predicted))
    assert statistics.accuracy(pooled) == pytest.approx(metrics.accuracy_score(labels, predicted))
    recall = metrics.balanced_accuracy_score(labels, predicted)
    assert statistics.macro_recall(pooled) == pytest.approx(recall)
    f1 = metrics.f1_score(labels, predicted, average="macro")
    assert statistics.macro_f1(pooled) == pytest.approx(f1)


def test_a_class_without_faces_is_left_out_of_the_mean():
    confusion = np.array([[3.0, 1.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert statistics.macro_recall(confusion) == pytest.approx((0.75 + 1.0) / 2)
    assert np.isnan(statistics.class_recall(confusion)[2])


def test_resamples_agree_with_resampling_faces_one_by_one():
    labels, predicted, subjects = simulated(np.random.default_rng(1), 12)
    drawn = np.random.default_rng(7).integers(12, size=(3, 12))
    expected = [
        sum(counts(labels, predicted, subjects)[subject] for subject in row) for row in drawn
    ]
    found = statistics.resampled_sums(counts(labels, predicted, subjects), num_resamples=3, seed=7)
    assert np.array_equal(found, expected)


def test_intervals_cover_the_truth():
    truth = counts(*simulated(np.random.default_rng(2), 100_000)).sum(axis=0)
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        found = statistics.subject_bootstrap(
            counts(*simulated(generator, 15)),
            {"macro_recall": statistics.macro_recall},
            num_resamples=400,
            seed=trial,
        )["macro_recall"]
        covered += found.low <= statistics.macro_recall(truth) <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_the_swap_test_keeps_its_level_and_finds_a_real_difference():
    generator = np.random.default_rng(4)
    alarms, found = 0, 0
    for trial in range(200):
        labels, first, subjects = simulated(generator, 20)
        flipped = generator.random(20)[subjects] < 0.5
        noise = np.where(generator.random(len(labels)) < 0.3, (labels + 1) % 4, first)
        one, two = np.where(flipped, first, noise), np.where(flipped, noise, first)
        pair = counts(labels, one, subjects), counts(labels, two, subjects)
        p = statistics.swap_test(*pair, statistics.macro_recall, num_swaps=300, seed=trial)
        alarms += p < 0.05
        pair = counts(labels, first, subjects), counts(labels, noise, subjects)
        p = statistics.swap_test(*pair, statistics.macro_recall, num_swaps=300, seed=trial)
        found += p < 0.05
    assert alarms / 200 <= 0.09
    assert found / 200 >= 0.9


def test_paired_tests_refuse_other_faces():
    labels, predicted, subjects = simulated(np.random.default_rng(8), 10)
    with pytest.raises(ValueError, match="same faces"):
        statistics.swap_test(
            counts(labels, predicted, subjects),
            counts((labels + 1) % 4, predicted, subjects),
            statistics.accuracy,
        )


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(statistics.holm([])) == 0


def test_tests_that_were_not_made_count_as_equal_in_holms_correction():
    p_values = [0.001, 0.02, 0.004]
    whole = statistics.holm([*p_values, 1.0, 1.0, 1.0])
    assert statistics.holm(p_values, 6) == pytest.approx(whole[:3])


def test_calibration_error():
    labels, subjects = np.array([0, 0, 0, 1]), np.array(["a", "a", "b", "b"])

    def error(logits):
        sums = statistics.calibration_sums(logits, labels, subjects)
        assert sums.shape == (2, 15, 2) and sums[..., 1].sum() == 4
        return statistics.calibration_error(sums.sum(axis=0))

    assert error(np.tile([20.0, -20.0], (4, 1))) == pytest.approx(0.25, abs=1e-6)
    assert error(np.tile([np.log(3.0), 0.0], (4, 1))) == pytest.approx(0.0, abs=1e-9)


def test_a_mean_by_subject_leaves_out_what_is_unknown():
    values = np.array([1.0, 3.0, np.nan, 8.0])
    found = statistics.mean_by_subject(values, np.array(["a", "a", "b", "c"]))
    assert found is not None and found.value == 4.0
    assert found.low >= 2.0 and found.high <= 8.0
    assert statistics.mean_by_subject(np.full(2, np.nan), np.array(["a", "b"])) is None


def test_the_calibration_error_is_that_of_its_definition():
    """Guo et al. 2017, equation 3: |accuracy - confidence| of every bin, by its share of faces."""
    generator = np.random.default_rng(5)
    logits, labels = generator.normal(0, 2, (500, NUM_CLASSES)), generator.integers(4, size=500)
    subjects = np.repeat([f"s{index}" for index in range(50)], 10)
    odds = np.exp(logits)
    shares = odds / odds.sum(axis=1, keepdims=True)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    expected = 0.0
    for low, high in pairwise(np.linspace(0, 1, 16)):
        own = (confidence >= low) & (confidence < high)
        if own.any():
            expected += own.mean() * abs(right[own].mean() - confidence[own].mean())
    sums = statistics.calibration_sums(logits, labels, subjects)
    assert statistics.calibration_error(sums.sum(axis=0)) == pytest.approx(expected)
    assert expected > 0.1


def test_attributes_are_told_as_by_scikit_learn():
    generator = np.random.default_rng(6)
    truth, right = generator.integers(0, 2, (200, 3)), generator.random((200, 3)) < 0.7
    told = np.where(right, truth, 1 - truth)
    sums = attribute_scores._sums(right, truth.astype(float), np.repeat(np.arange(20), 10))
    for metric, reference in (
        (attribute_scores.mean_accuracy, metrics.accuracy_score),
        (attribute_scores.mean_balanced, metrics.balanced_accuracy_score),
    ):
        expected = np.mean([reference(truth[:, one], told[:, one]) for one in range(3)])
        assert metric(sums.sum(axis=0)) == pytest.approx(expected)


def test_a_distance_lies_within_its_recentred_interval() -> None:
    outside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(300, 3)) * 2
        share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        labels = (share.cumsum(1) < rng.uniform(size=(300, 1))).sum(1)
        subjects = np.repeat(np.arange(30), 10).astype(str)
        sums = statistics.calibration_sums(logits, labels, subjects)
        metrics = {"error": statistics.calibration_error}
        plain = statistics.subject_bootstrap(sums, metrics, num_resamples=400)["error"]
        found = statistics.subject_bootstrap(sums, metrics, num_resamples=400, recentred=True)
        outside += not plain.low <= plain.value <= plain.high
        assert 0 <= found["error"].low <= found["error"].value <= found["error"].high
    assert outside > 0

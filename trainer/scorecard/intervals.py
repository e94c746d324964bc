"""How sure recognition figures are: intervals over subjects, without resampling.

Everything works on one confusion matrix per subject. The bootstrap of
`trainer.scorecard.statistics` is for figures that are no function of these; where few subjects have
many faces it covers too seldom.

Shapes: S subjects, K classes (truth before prediction).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student_t

from trainer.scorecard.statistics import (
    METRICS,
    Difference,
    Interval,
    Metric,
    confusion_by_subject,
    same_faces,
    swap_test,
)

ESTIMATOR = "delete-one-subject jackknife (logit, t with Satterthwaite degrees of freedom), 95 %"
"""What intervals are called wherever they are shown."""

_NO_ERROR = 1e-12


def subject_intervals(
    counts_SKK: np.ndarray, metrics: Mapping[str, Metric] = METRICS, *, level: float = 0.95
) -> dict[str, Interval]:
    """Each metric, a share between 0 and 1, with its interval over subjects.

    The delete-one-subject jackknife on the logit scale, with Student's t. Its degrees of freedom
    are not S - 1 but what the subjects' shares in the figure leave of them, so that a few subjects
    with many faces do not make an interval too narrow (see `degrees_of_freedom`). Where subjects
    do not differ at all each counts as one trial of a binomial: a figure of 0 or 1 gets the exact
    bound, others its standard error. One subject tells nothing: 0 to 1.
    `benchmarks/coverage.py` measures how often the truth is covered.
    """
    found = {}
    for name, metric in metrics.items():
        value = float(metric(counts_SKK.sum(axis=0)))
        low, high = _share_bounds(counts_SKK, metric, value, level)
        found[name] = Interval(value=value, low=low, high=high)
    return found


def _share_bounds(
    counts_SKK: np.ndarray, metric: Metric, value: float, level: float
) -> tuple[float, float]:
    num_subjects = len(counts_SKK)
    if num_subjects < 2:
        return 0.0, 1.0
    spread = value * (1 - value)
    if spread < _NO_ERROR:
        reach = _agreement(num_subjects, level)
        return (reach, 1.0) if value > 0.5 else (0.0, 1 - reach)
    error = _standard_error(_deleted(counts_SKK, metric) - value)
    error = error if error > _NO_ERROR else np.sqrt(spread / num_subjects)
    quantile = student_t.ppf((1 + level) / 2, degrees_of_freedom(counts_SKK, metric))
    low, high = logit(value) + np.array([-1, 1]) * quantile * error / spread
    return float(expit(low)), float(expit(high))


def _agreement(num_subjects: int, level: float) -> float:
    """The least probability of what all subjects agree on, by the exact binomial bound."""
    return float(((1 - level) / 2) ** (1 / num_subjects))


def share_by_subject(hit_N: np.ndarray, subjects_N: np.ndarray) -> Interval | None:
    """The share of hits (1) among samples that are hit or not (0), with its interval over subjects.

    NaN counts as unknown; None where nothing is known.
    """
    known_N = np.isfinite(hit_N)
    if not known_N.any():
        return None
    found_N = hit_N[known_N].astype(np.int64)
    counts_S22 = confusion_by_subject(np.ones_like(found_N), found_N, subjects_N[known_N], 2)
    return subject_intervals(counts_S22, {"share": METRICS["accuracy"]})["share"]


def _deleted(counts_SKK: np.ndarray, metric: Metric) -> np.ndarray:
    """The metric without each subject in turn, [S]."""
    return metric(counts_SKK.sum(axis=0) - counts_SKK)


def _standard_error(changes_S: np.ndarray) -> float:
    """The jackknife's, around the figure itself."""
    num_subjects = len(changes_S)
    return float(np.sqrt((num_subjects - 1) / num_subjects * np.sum(changes_S**2)))


def degrees_of_freedom(counts_SKK: np.ndarray, metric: Metric) -> float:
    """How many equal subjects would leave the variance as uncertain as these do, less one at most.

    Satterthwaite's degrees of freedom over each subject's share in the variance, where the faces of
    a subject resemble each other as much as these do: the working model of Imbens and Kolesár 2016,
    "Robust standard errors in small samples". Between 1 and S - 1.
    """
    shares_S = _variance_shares(counts_SKK, metric)
    total = shares_S.sum()
    if total <= 0:
        return float(len(counts_SKK) - 1)
    return float(np.clip(total**2 / np.sum(shares_S**2), 1, len(counts_SKK) - 1))


def _variance_shares(counts_SKK: np.ndarray, metric: Metric) -> np.ndarray:
    """Each subject's part [S] in the metric's variance, linear in the confusion matrix.

    Between faces that are independent and faces of one subject that are all alike, by moments.
    """
    pooled_KK = counts_SKK.sum(axis=0)
    support_K = pooled_KK.sum(axis=1)
    chance_KK = pooled_KK / np.maximum(support_K, 1)[:, None]
    slope_KK = _slope(pooled_KK, metric)
    slope_KK = slope_KK - np.sum(chance_KK * slope_KK, axis=1, keepdims=True)
    variance_K = np.sum(chance_KK * slope_KK**2, axis=1)
    faces_SK = counts_SKK.sum(axis=2)
    apart_S = faces_SK @ variance_K
    alike_S = (faces_SK @ np.sqrt(variance_K)) ** 2
    found = np.sum(np.einsum("skj,kj->s", counts_SKK, slope_KK) ** 2)
    room = alike_S.sum() - apart_S.sum()
    likeness = np.clip((found - apart_S.sum()) / room, 0, 1) if room > 0 else 0.0
    return (1 - likeness) * apart_S + likeness * alike_S


def _slope(pooled_KK: np.ndarray, metric: Metric) -> np.ndarray:
    """What one more face in a cell does to the metric, [K, K]; 0 for classes without a face."""
    num_classes = len(pooled_KK)
    step = 1e-4
    moved = pooled_KK + step * np.eye(num_classes**2).reshape(-1, num_classes, num_classes)
    slope = ((metric(moved) - metric(pooled_KK)) / step).reshape(num_classes, num_classes)
    return np.where(pooled_KK.sum(axis=1, keepdims=True) > 0, slope, 0.0)


def paired_difference(
    first_SKK: np.ndarray,
    second_SKK: np.ndarray,
    metric: Metric,
    *,
    num_swaps: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """The metric of the first minus that of the second, subject by subject.

    Both sets must be of the same faces. The interval is that of `subject_intervals`, of the
    difference itself rather than its logit, within -1 and 1; where all subjects differ by as much,
    that of which side they are on. `p` is that of `swap_test`, which is exact under its null:
    within a subject it does not matter which of the two made which predictions.
    """
    value, error, degrees = paired_error(first_SKK, second_SKK, metric)
    if len(first_SKK) < 2:
        reach = 1.0
    elif error > _NO_ERROR:
        reach = float(student_t.ppf((1 + level) / 2, degrees)) * error
    else:
        reach = 2 * abs(value) * (1 - _agreement(len(first_SKK), level))
    p = swap_test(first_SKK, second_SKK, metric, num_swaps=num_swaps, seed=seed)
    return Difference(value=value, low=max(value - reach, -1.0), high=min(value + reach, 1.0), p=p)


def paired_error(
    first_SKK: np.ndarray, second_SKK: np.ndarray, metric: Metric
) -> tuple[float, float, float]:
    """The metric of the first minus that of the second, its standard error (the jackknife's over
    subjects) and the degrees of freedom of that. Both sets must be of the same faces."""
    same_faces(first_SKK, second_SKK)
    value = float(metric(first_SKK.sum(axis=0)) - metric(second_SKK.sum(axis=0)))
    deleted_S = _deleted(first_SKK, metric) - _deleted(second_SKK, metric)
    degrees = degrees_of_freedom((first_SKK + second_SKK) / 2, metric)
    return value, _standard_error(deleted_S - value), degrees

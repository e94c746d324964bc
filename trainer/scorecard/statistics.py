"""How sure a figure is: metrics of confusion matrices, bootstrap and permutation tests by subject.

Faces of one subject are not independent, so subjects are what is resampled. Everything works on one
confusion matrix per subject, which turns a resample into a weighted sum of matrices.

Shapes: R resamples, S subjects, K classes (truth before prediction), N faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from scipy.stats import norm
from scipy.stats import t as student_t

Metric = Callable[[np.ndarray], np.ndarray]
"""Maps confusion matrices (..., K, K), or other sums over subjects, to one figure each (...)."""

CELLS_AT_ONCE = 1 << 21


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How much better the first of two prediction sets is; `p` is two-sided."""

    value: float
    low: float
    high: float
    p: float


def accuracy(confusion_KK: np.ndarray) -> np.ndarray:
    """The share of faces on the diagonal."""
    return np.trace(confusion_KK, axis1=-2, axis2=-1) / confusion_KK.sum(axis=(-2, -1))


def class_recall(confusion_KK: np.ndarray) -> np.ndarray:
    """Recall of each class (..., K); nan where no face has that class."""
    support_K = confusion_KK.sum(axis=-1)
    hits_K = np.diagonal(confusion_KK, axis1=-2, axis2=-1)
    return np.divide(hits_K, support_K, out=np.full(support_K.shape, np.nan), where=support_K > 0)


def macro_recall(confusion_KK: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that are present in the truth."""
    return np.nanmean(class_recall(confusion_KK), axis=-1)


def macro_f1(confusion_KK: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that are present in the truth."""
    support_K = confusion_KK.sum(axis=-1)
    hits_K = np.diagonal(confusion_KK, axis1=-2, axis2=-1)
    total_K = support_K + confusion_KK.sum(axis=-2)
    present = support_K > 0
    f1_K = np.divide(2.0 * hits_K, total_K, out=np.full(total_K.shape, np.nan), where=present)
    return np.nanmean(f1_K, axis=-1)


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "macro_recall": macro_recall,
    "macro_f1": macro_f1,
}


def confusion_by_subject(
    labels_N: np.ndarray, predicted_N: np.ndarray, subjects_N: np.ndarray, num_classes: int
) -> np.ndarray:
    """One confusion matrix per subject, (S, K, K) in float64, subjects in sorted order."""
    names_S, subject_N = np.unique(subjects_N, return_inverse=True)
    cell_N = (subject_N * num_classes + labels_N) * num_classes + predicted_N
    counts = np.bincount(cell_N, minlength=len(names_S) * num_classes**2)
    return counts.reshape(len(names_S), num_classes, num_classes).astype(np.float64)


def resampled_weights(
    num_subjects: int, *, num_resamples: int = 2000, seed: int = 0
) -> Iterator[np.ndarray]:
    """How often each subject is in each bootstrap resample, (R, S), in parts small in memory.

    The resamples depend on `seed` and S alone, so that two prediction sets of the same subjects see
    the same ones, as a paired test needs.
    """
    generator = np.random.default_rng(seed)
    for rows in _chunks(num_resamples, num_subjects):
        drawn_RS = generator.integers(num_subjects, size=(rows, num_subjects))
        drawn_RS += np.arange(rows)[:, None] * num_subjects
        weights = np.bincount(drawn_RS.ravel(), minlength=rows * num_subjects)
        yield weights.reshape(rows, num_subjects).astype(np.float64)


def resampled_sums(sums_S: np.ndarray, *, num_resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Sums by subject (S, ...), such as confusion matrices, over each bootstrap resample (R, ...).

    The resamples are those of `resampled_weights`.
    """
    num_subjects = len(sums_S)
    resamples = resampled_weights(num_subjects, num_resamples=num_resamples, seed=seed)
    parts = [weights_RS @ sums_S.reshape(num_subjects, -1) for weights_RS in resamples]
    return np.concatenate(parts).reshape(num_resamples, *sums_S.shape[1:])


def _chunks(num_resamples: int, num_subjects: int) -> Iterator[int]:
    """Resamples at a time, so that the weights stay small in memory."""
    size = max(CELLS_AT_ONCE // num_subjects, 1)
    for start in range(0, num_resamples, size):
        yield min(size, num_resamples - start)


def subject_bootstrap(
    sums_S: np.ndarray,
    metrics: Mapping[str, Metric],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    recentred: bool = False,
) -> dict[str, Interval]:
    """Each metric with its interval by the subject bootstrap, expanded percentiles.

    `sums_S` are any sums by subject (S, ...) that the metrics are made for; accuracy and recall
    have better intervals in `trainer.scorecard.intervals`. Subjects are resampled with
    replacement; a resample that lacks a class averages over the classes that it has, and one whose
    figure is not finite, as it holds nobody of whom something is known, is left out. Where every
    resample agrees (a perfect score, one subject) the interval is a point. `recentred` is for
    distances, which resamples push upwards: their mean is shifted back onto the figure; none of it
    below 0.
    """
    resampled_RKK = resampled_sums(sums_S, num_resamples=num_resamples, seed=seed)
    pooled_KK = sums_S.sum(axis=0)
    found = {}
    for name, metric in metrics.items():
        resampled_R = metric(resampled_RKK)
        finite_R = resampled_R[np.isfinite(resampled_R)]
        counted_R = finite_R if len(finite_R) else resampled_R
        low, high = expanded_percentiles(counted_R, len(sums_S), level)
        value = float(metric(pooled_KK))
        if recentred:
            bias = float(counted_R.mean()) - value
            low, high = max(low - bias, 0.0), max(high - bias, 0.0)
        found[name] = Interval(value=value, low=low, high=high)
    return found


def expanded_percentiles(
    resampled_R: np.ndarray, num_subjects: int, level: float = 0.95
) -> tuple[float, float]:
    """The bounds of a bootstrap distribution, widened for few subjects.

    Plain percentiles are too narrow by sqrt((S - 1) / S) and by normal in place of t quantiles;
    percentiles further out undo both (Hesterberg 2015, "What teachers should know about the
    bootstrap", section 3.3). With ten subjects 94 % of the intervals then cover, not 90 %.
    """
    degrees = max(num_subjects - 1, 1)
    quantile = student_t.ppf((1 + level) / 2, degrees) * np.sqrt(num_subjects / degrees)
    tail = norm.cdf(-quantile)
    low, high = np.quantile(resampled_R, [tail, 1 - tail])
    return float(low), float(high)


def swap_test(
    first_SKK: np.ndarray,
    second_SKK: np.ndarray,
    metric: Metric,
    *,
    num_swaps: int = 2000,
    seed: int = 0,
) -> float:
    """Two-sided p of a paired permutation test: each subject's two predictions are swapped or not.

    For accuracy it is the sign-flip test on the subjects' differences; for a macro metric the same
    flips are carried through the pooled confusion matrices. The observed arrangement counts as one.
    """
    same_faces(first_SKK, second_SKK)
    generator = np.random.default_rng(seed)
    num_subjects, num_classes = first_SKK.shape[:2]
    differing = np.any(first_SKK != second_SKK, axis=(1, 2))
    change = (first_SKK - second_SKK)[differing].reshape(int(differing.sum()), num_classes**2)
    total = (first_SKK + second_SKK).sum(axis=0)
    observed = abs(metric(first_SKK.sum(axis=0)) - metric(second_SKK.sum(axis=0)))
    as_extreme = 1
    for rows in _chunks(num_swaps, num_subjects):
        kept_RS = generator.random((rows, len(change))) < 0.5
        first_R = (kept_RS @ change).reshape(rows, num_classes, num_classes)
        first_R = first_R + second_SKK.sum(axis=0)
        swapped_R = np.abs(metric(first_R) - metric(total - first_R))
        as_extreme += int(np.sum(swapped_R >= observed - 1e-12))
    return as_extreme / (num_swaps + 1)


def same_faces(first_SKK: np.ndarray, second_SKK: np.ndarray) -> None:
    """ValueError where the two are not of the same faces."""
    faces = [counts_SKK.sum(2) for counts_SKK in (first_SKK, second_SKK)]
    if faces[0].shape != faces[1].shape or not np.allclose(*faces):  # thirds of faces, too
        raise ValueError("a paired test needs two prediction sets of the same faces")


def holm(p_values: Sequence[float], tests: int | None = None) -> np.ndarray:
    """P values adjusted by Holm's step-down method (1979), in the given order.

    For their own number or, where others were not made or are not given, for so many `tests`, of
    which those count as 1.
    """
    p_M = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_M)
    steps_M = (len(p_M) if tests is None else tests) - np.arange(len(p_M))
    stepped = np.maximum.accumulate(p_M[order] * steps_M)
    adjusted_M = np.empty_like(p_M)
    adjusted_M[order] = np.minimum(stepped, 1.0)
    return adjusted_M


def mean_by_subject(
    values_N: np.ndarray, subjects_N: np.ndarray, *, num_resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """The mean over samples with its interval by the subject bootstrap; NaN counts as unknown.

    None where nothing is known.
    """
    known_N = np.isfinite(values_N)
    if not known_N.any():
        return None
    sums_S2 = sums_by_subject(
        np.column_stack([values_N[known_N], np.ones(known_N.sum())]), subjects_N[known_N]
    )
    return subject_bootstrap(sums_S2, {"mean": ratio}, num_resamples=num_resamples, seed=seed)[
        "mean"
    ]


def ratio(sums_2: np.ndarray) -> np.ndarray:
    """A mean, from sum and count (..., 2)."""
    return sums_2[..., 0] / sums_2[..., 1]


def sums_by_subject(values_N: np.ndarray, subjects_N: np.ndarray) -> np.ndarray:
    """Values (N, ...) added up by subject, (S, ...) in float64, subjects in sorted order."""
    names_S, subject_N = np.unique(subjects_N, return_inverse=True)
    sums = np.zeros((len(names_S), *values_N.shape[1:]))
    np.add.at(sums, subject_N, values_N)
    return sums


def calibration_sums(
    logits_NK: np.ndarray, labels_N: np.ndarray, subjects_N: np.ndarray, *, num_bins: int = 15
) -> np.ndarray:
    """Correct minus confident, and faces, of the top class by bin of confidence, (S, bins, 2)."""
    share_NK = softmax(logits_NK, axis=1)
    confidence_N = share_NK.max(axis=1)
    correct_N = share_NK.argmax(axis=1) == labels_N
    bin_N = np.minimum((confidence_N * num_bins).astype(int), num_bins - 1)
    cells = np.zeros((len(labels_N), num_bins, 2))
    cells[np.arange(len(labels_N)), bin_N] = np.column_stack(
        [correct_N - confidence_N, np.ones(len(labels_N))]
    )
    return sums_by_subject(cells, subjects_N)


def calibration_error(sums_b2: np.ndarray) -> np.ndarray:
    """Expected calibration error over bins of equal width (..., bins, 2) (Guo et al. 2017)."""
    return np.abs(sums_b2[..., 0]).sum(axis=-1) / sums_b2[..., 1].sum(axis=-1)

"""Distances between what is real and what is made, in a space of features, by subject bootstrap.

Shapes: N samples, D features, S subjects, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel

from trainer.scorecard.statistics import (
    Interval,
    expanded_percentiles,
    resampled_weights,
    subject_bootstrap,
)

DISTANCE_RESAMPLES = 200
"""Fewer than elsewhere: each takes the roots of two matrices."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """Features (N, D) and the subject of each."""

    features_ND: np.ndarray
    subjects_N: np.ndarray


def frechet_distance(real: Sample, made: Sample, *, seed: int = 0) -> Interval:
    """Fréchet distance of two Gaussians (Dowson & Landau 1982; as FID, Heusel et al. 2017).

    Biased upwards for few samples; of its interval only what resamples, which hold fewer different
    faces, add to that is undone. Compare only figures of as many faces, or the kernel distance.
    """
    sums_S = np.stack([_moments(one, _names(real, made)) for one in (real, made)], axis=1)
    return subject_bootstrap(
        sums_S,
        {"distance": _frechet},
        num_resamples=DISTANCE_RESAMPLES,
        seed=seed,
        recentred=True,
    )["distance"]


def _names(*samples: Sample) -> np.ndarray:
    return np.unique(np.concatenate([one.subjects_N for one in samples]))


def _moments(sample: Sample, names_S: np.ndarray) -> np.ndarray:
    """By subject: count, sum, sum of squares and products, (S, D + 1, D + 1)."""
    extended_NE = np.pad(sample.features_ND.astype(np.float64), ((0, 0), (1, 0)), constant_values=1)
    found = np.zeros((len(names_S), extended_NE.shape[1], extended_NE.shape[1]))
    for index, name in enumerate(names_S):
        own_NE = extended_NE[sample.subjects_N == name]
        found[index] = own_NE.T @ own_NE
    return found


def _frechet(sums_2EE: np.ndarray) -> np.ndarray:
    """Of moments (..., 2, D + 1, D + 1): real, made."""
    count = sums_2EE[..., :1, :1]
    mean_2D = sums_2EE[..., 0, 1:] / count[..., 0]
    product_2DD = sums_2EE[..., 1:, 1:] - count * mean_2D[..., :, None] * mean_2D[..., None, :]
    covariance_2DD = product_2DD / np.maximum(count - 1, 1)
    real_DD, made_DD = covariance_2DD[..., 0, :, :], covariance_2DD[..., 1, :, :]
    # the trace of the root of a product is the sum of the roots of its eigenvalues
    roots = np.sqrt(np.clip(np.linalg.eigvals(real_DD @ made_DD).real, 0, None)).sum(axis=-1)
    traces = np.trace(covariance_2DD, axis1=-2, axis2=-1).sum(axis=-1)
    shift = np.square(mean_2D[..., 0, :] - mean_2D[..., 1, :]).sum(axis=-1)
    return shift + traces - 2 * roots


def kernel_distance(real: Sample, made: Sample, *, seed: int = 0) -> Interval | None:
    """Squared maximum mean discrepancy with the cubic kernel (KID, Binkowski et al. 2018).

    Unbiased for faces that come by subject: only pairs of different subjects count, on either side
    and between them, for an edit is nearly its source, and edits of one face nearly each other.
    None where there are fewer than two subjects.
    """
    names_S = _names(real, made)
    blocks = [_kernel_sums(*pair, names_S) for pair in ((real, real), (made, made), (real, made))]
    return _over_pairs(
        [
            lambda weights_RS, block=block: np.einsum(
                "rs,xst,rt->xr", weights_RS, block, weights_RS, optimize=True
            )
            for block in blocks
        ],
        lambda real_R, made_R, both_R: real_R + made_R - 2 * both_R,
        len(names_S),
        seed,
    )


def _kernel_sums(first: Sample, second: Sample, names_S: np.ndarray) -> np.ndarray:
    """Kernel values and pairs, added up over pairs of different subjects, (2, S, S)."""
    kernel_NN = polynomial_kernel(first.features_ND, second.features_ND, degree=3, coef0=1)
    rows_NS = (first.subjects_N[:, None] == names_S).astype(np.float64)
    columns_NS = (second.subjects_N[:, None] == names_S).astype(np.float64)
    pairs_SS = rows_NS.sum(0)[:, None] * columns_NS.sum(0)
    different_SS = 1 - np.eye(len(names_S))
    return np.stack([rows_NS.T @ kernel_NN @ columns_NS, pairs_SS]) * different_SS


def relative_spread(
    real: Sample,
    real_labels_N: np.ndarray,
    made: Sample,
    made_labels_N: np.ndarray,
    *,
    seed: int = 0,
) -> Interval | None:
    """How far faces of different subjects and one class lie apart, made over real.

    The root of the mean squared distances. 1: made faces differ from each other as much as real
    ones; 0: a generator that knows one face for each class. None where no class has two subjects.
    """
    names_S = _names(real, made)
    sides = [
        _distance_sums(one, labels_N, names_S)
        for one, labels_N in ((real, real_labels_N), (made, made_labels_N))
    ]
    return _over_pairs(
        sides,
        lambda real_R, made_R: np.sqrt(np.maximum(made_R, 0) / np.maximum(real_R, 1e-12)),
        len(names_S),
        seed,
    )


def _distance_sums(
    sample: Sample, labels_N: np.ndarray, names_S: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Squared distances and pairs, added up over pairs of one class and different subjects, (2, R).

    Of moments by subject and class: a sum over pairs of all faces, less the pairs of one subject.
    """
    squares_N1 = np.square(sample.features_ND).sum(axis=1, keepdims=True)
    values_NF = np.hstack([np.ones_like(squares_N1), squares_N1, sample.features_ND])
    labels = np.unique(labels_N)
    sums_SKF = np.zeros((len(names_S), len(labels), values_NF.shape[1]))
    subject_N = np.searchsorted(names_S, sample.subjects_N)
    np.add.at(sums_SKF, (subject_N, np.searchsorted(labels, labels_N)), values_NF)
    own_S2 = _pair_sums(sums_SKF)

    def over(weights_RS: np.ndarray) -> np.ndarray:
        all_RKF = np.tensordot(weights_RS, sums_SKF, axes=1)
        return (_pair_sums(all_RKF) - np.square(weights_RS) @ own_S2).T

    return over


def _pair_sums(sums_KF: np.ndarray) -> np.ndarray:
    """Squared distances and pairs over all ordered pairs of one class, (..., 2)."""
    count, squares, total_D = sums_KF[..., 0], sums_KF[..., 1], sums_KF[..., 2:]
    distance = 2 * (count * squares - np.square(total_D).sum(axis=-1))
    return np.stack([distance.sum(axis=-1), np.square(count).sum(axis=-1)], axis=-1)


def _over_pairs(
    sums: Sequence[Callable[[np.ndarray], np.ndarray]],
    figure: Callable[..., np.ndarray],
    num_subjects: int,
    seed: int,
) -> Interval | None:
    """A figure of means over pairs, with its interval; resamples without a pair are left out."""

    def at(weights_RS: np.ndarray) -> np.ndarray:
        found = [one(weights_RS) for one in sums]
        means = [
            np.divide(total_R, count_R, out=np.full(len(count_R), np.nan), where=count_R > 0.5)
            for total_R, count_R in found
        ]
        return figure(*means)

    value = float(at(np.ones((1, num_subjects)))[0])
    if not np.isfinite(value):
        return None
    parts = resampled_weights(num_subjects, num_resamples=DISTANCE_RESAMPLES, seed=seed)
    resampled_R = np.concatenate([at(weights_RS) for weights_RS in parts])
    low, high = expanded_percentiles(resampled_R[np.isfinite(resampled_R)], num_subjects)
    return Interval(value=value, low=low, high=high)

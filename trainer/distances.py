"""Distances between what is real and what is made, in a space of features, by subject bootstrap.

Shapes: N samples, D features, S subjects, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel

from trainer.statistics import (
    Interval,
    expanded_percentiles,
    resampled_weights,
    subject_bootstrap,
    sums_by_subject,
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

    Biased upwards for few samples: compare only figures of as many.
    """
    sums_S = np.stack([_moments(one, _names(real, made)) for one in (real, made)], axis=1)
    return subject_bootstrap(
        sums_S, {"distance": _frechet}, num_resamples=DISTANCE_RESAMPLES, seed=seed
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


def kernel_distance(real: Sample, made: Sample, *, seed: int = 0) -> Interval:
    """Squared maximum mean discrepancy, cubic kernel, unbiased (KID, Binkowski et al. 2018).

    A resample counts no sample against its own copy, so that it stays unbiased.
    """
    names_S = _names(real, made)
    blocks = {
        "real": _blocks(real, real, names_S),
        "made": _blocks(made, made, names_S),
        "both": _blocks(real, made, names_S),
    }
    same = {"real": _same(real, names_S), "made": _same(made, names_S)}
    value = float(_kernel(np.ones((1, len(names_S))), blocks, same)[0])
    parts = resampled_weights(len(names_S), num_resamples=DISTANCE_RESAMPLES, seed=seed)
    resampled_R = np.concatenate([_kernel(weights_RS, blocks, same) for weights_RS in parts])
    low, high = expanded_percentiles(resampled_R, len(names_S))
    return Interval(value=value, low=low, high=high)


def _blocks(first: Sample, second: Sample, names_S: np.ndarray) -> np.ndarray:
    """Kernel values and pairs, added up over pairs of subjects, (2, S, S)."""
    kernel_NN = polynomial_kernel(first.features_ND, second.features_ND, degree=3, coef0=1)
    rows_NS = (first.subjects_N[:, None] == names_S).astype(np.float64)
    columns_NS = (second.subjects_N[:, None] == names_S).astype(np.float64)
    pairs_SS = rows_NS.sum(0)[:, None] * columns_NS.sum(0)
    return np.stack([rows_NS.T @ kernel_NN @ columns_NS, pairs_SS])


def _same(sample: Sample, names_S: np.ndarray) -> np.ndarray:
    """Kernel values of samples with themselves, and how many, by subject, (2, S)."""
    own_N = (np.square(sample.features_ND).sum(axis=1) / sample.features_ND.shape[1] + 1) ** 3
    belongs_NS = sample.subjects_N[:, None] == names_S
    return np.stack([own_N @ belongs_NS, belongs_NS.sum(axis=0)])


def _kernel(
    weights_RS: np.ndarray, blocks: Mapping[str, np.ndarray], same: Mapping[str, np.ndarray]
) -> np.ndarray:
    means = {}
    for name, block_2SS in blocks.items():
        sums_2R = np.einsum("rs,xst,rt->xr", weights_RS, block_2SS, weights_RS, optimize=True)
        if name in same:
            sums_2R = sums_2R - same[name] @ np.square(weights_RS).T
        means[name] = sums_2R[0] / np.maximum(sums_2R[1], 1)
    return means["real"] + means["made"] - 2 * means["both"]


def relative_spread(
    real: Sample, real_labels_N: np.ndarray, made: Sample, made_labels_N: np.ndarray, classes: int
) -> Interval | None:
    """How far faces of one class lie apart, made over real (root of the traces); mean of classes.

    1: the made faces differ as much as the real ones; 0: a generator that knows one face. None
    where no class has two faces of both.
    """
    names_S = _names(real, made)
    sums = np.zeros((len(names_S), 2, classes, real.features_ND.shape[1] + 2))
    for side, (one, labels_N) in enumerate(((real, real_labels_N), (made, made_labels_N))):
        squares_N1 = np.square(one.features_ND).sum(axis=1, keepdims=True)
        values_NF = np.hstack([np.ones_like(squares_N1), squares_N1, one.features_ND])
        for label in range(classes):
            own_N = labels_N == label
            if own_N.any():
                place_S = np.searchsorted(names_S, np.unique(one.subjects_N[own_N]))
                sums[place_S, side, label] = sums_by_subject(
                    values_NF[own_N], one.subjects_N[own_N]
                )
    if not np.isfinite(_spread(sums.sum(axis=0))):
        return None
    return subject_bootstrap(sums, {"spread": _spread}, num_resamples=1000, seed=0)["spread"]


def _spread(sums_2KF: np.ndarray) -> np.ndarray:
    count, squares, total_D = sums_2KF[..., 0], sums_2KF[..., 1], sums_2KF[..., 2:]
    inner = np.maximum(squares - np.square(total_D).sum(axis=-1) / np.maximum(count, 1), 0)
    trace_2K = np.where(count > 1, inner / np.maximum(count - 1, 1), np.nan)
    real_K, made_K = trace_2K[..., 0, :], trace_2K[..., 1, :]
    known_K = np.isfinite(real_K) & np.isfinite(made_K) & (real_K > 0)
    ratio_K = np.sqrt(np.where(known_K, made_K / np.where(known_K, real_K, 1), 0))
    count_of = known_K.sum(axis=-1)
    return np.where(count_of > 0, ratio_K.sum(axis=-1) / np.maximum(count_of, 1), np.nan)

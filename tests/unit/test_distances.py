"""Distances between samples, against their definitions and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel

from trainer import distances
from trainer.distances import Sample


def sample(count: int = 60, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Sample:
    features = np.random.default_rng(seed).normal(size=(count, 4)) * scale + shift
    return Sample(features_ND=features, subjects_N=np.array([f"s{i % 6}" for i in range(count)]))


def test_the_frechet_distance_is_that_of_two_gaussians():
    one, two = sample(), sample(80, shift=0.5, scale=2.0, seed=1)
    means = [x.features_ND.mean(axis=0) for x in (one, two)]
    covariances = [np.cov(x.features_ND.T) for x in (one, two)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(sum(covariances) - 2 * root)
    found = distances.frechet_distance(one, two)
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value <= found.high
    assert distances.frechet_distance(one, one).value == pytest.approx(0, abs=1e-6)


def test_the_kernel_distance_is_the_unbiased_estimate():
    one, two = sample(), sample(80, shift=0.5, seed=1)
    kernel = {
        pair: polynomial_kernel(x.features_ND, y.features_ND, degree=3, coef0=1)
        for pair, (x, y) in {"11": (one, one), "22": (two, two), "12": (one, two)}.items()
    }
    expected = -2 * kernel["12"].mean()
    for pair in ("11", "22"):
        size = len(kernel[pair])
        expected += (kernel[pair].sum() - np.trace(kernel[pair])) / (size * (size - 1))
    assert distances.kernel_distance(one, two).value == pytest.approx(expected)


def test_the_kernel_distance_of_one_distribution_is_about_zero_and_its_resamples_too():
    many = [sample(40, seed=seed) for seed in range(2, 42)]
    found = [distances.kernel_distance(one, two) for one, two in zip(many[::2], many[1::2])]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert np.mean([one.low < 0 < one.high for one in found]) > 0.8


def test_far_is_further_than_near():
    near, far = (distances.kernel_distance(sample(), sample(shift=x, seed=1)) for x in (0.2, 2.0))
    assert far.low > near.value


def test_one_face_for_all_has_no_spread():
    real = sample()
    labels = np.arange(60) // 30
    same = Sample(features_ND=np.zeros((60, 4)), subjects_N=real.subjects_N)
    spread = distances.relative_spread(real, labels, same, labels, 2)
    assert spread is not None and spread.value == 0
    own = distances.relative_spread(real, labels, real, labels, 3)
    assert own is not None and own.value == pytest.approx(1)
    alone = Sample(features_ND=real.features_ND[:2], subjects_N=real.subjects_N[:2])
    assert distances.relative_spread(real, labels, alone, np.array([0, 1]), 2) is None

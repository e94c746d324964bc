"""Distances between samples, against their definitions and known answers."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel

from trainer.scorecard import distances
from trainer.scorecard.distances import Sample


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


def test_the_kernel_distance_counts_pairs_of_different_subjects():
    one, two = sample(), sample(80, shift=0.5, seed=1)
    means = []
    for first, second in ((one, one), (two, two), (one, two)):
        kernel = polynomial_kernel(first.features_ND, second.features_ND, degree=3, coef0=1)
        means.append(kernel[first.subjects_N[:, None] != second.subjects_N].mean())
    found = distances.kernel_distance(one, two)
    assert found is not None
    assert found.value == pytest.approx(means[0] + means[1] - 2 * means[2])


def test_of_faces_of_different_subjects_the_kernel_distance_is_the_published_one():
    """Binkowski et al. 2018, equation 4 with k(x, y) = (x y / D + 1)^3, pair by pair."""
    real, made = (
        Sample(features_ND=one.features_ND, subjects_N=np.array([f"{side}{i}" for i in range(60)]))
        for side, one in (("real", sample()), ("made", sample(shift=0.5, seed=1)))
    )

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    within = [
        np.mean([kernel(x, y) for x, y in permutations(one.features_ND, 2)]) for one in (real, made)
    ]
    between = np.mean([kernel(x, y) for x, y in product(real.features_ND, made.features_ND)])
    found = distances.kernel_distance(real, made)
    assert found is not None
    assert found.value == pytest.approx(sum(within) - 2 * between)


def people(seed: int, subjects: int = 12) -> Sample:
    """Six nearly equal faces of each subject."""
    generator = np.random.default_rng(seed)
    own = np.repeat(generator.normal(size=(subjects, 4)), 6, axis=0)
    names = np.repeat([f"s{i:02}" for i in range(subjects)], 6)
    return Sample(features_ND=own + 0.05 * generator.normal(size=own.shape), subjects_N=names)


def test_the_kernel_distance_of_copies_is_about_zero_and_its_interval_around_it():
    """Edits that change nothing: each made face is nearly its source."""
    found = []
    for seed in range(20):
        real = people(seed)
        noise = np.random.default_rng(seed).normal(size=real.features_ND.shape) * 0.05
        made = Sample(features_ND=real.features_ND + noise, subjects_N=real.subjects_N)
        found.append(distances.kernel_distance(real, made))
    apart = [distances.kernel_distance(people(s), people(s + 50)) for s in range(20)]
    spread = np.std([one.value for one in apart if one is not None])
    assert all(one is not None and abs(one.value) < spread for one in found)
    assert np.mean([one is not None and one.low <= 0 <= one.high for one in found]) > 0.8


def test_far_is_further_than_near():
    near, far = (distances.kernel_distance(sample(), sample(shift=x, seed=1)) for x in (0.2, 2.0))
    assert near is not None and far is not None
    assert far.low > near.value


def test_one_subject_has_no_kernel_distance():
    alone = Sample(features_ND=np.eye(4), subjects_N=np.array(["s"] * 4))
    assert distances.kernel_distance(alone, alone) is None


def test_the_spread_is_that_of_pairs_of_one_class_and_different_subjects():
    real, made = people(1), people(2)
    labels = np.arange(72) % 3
    means = []
    for one in (real, made):
        squares = np.square(one.features_ND[:, None] - one.features_ND).sum(axis=2)
        apart = one.subjects_N[:, None] != one.subjects_N
        means.append(squares[apart & (labels[:, None] == labels)].mean())
    found = distances.relative_spread(real, labels, made, labels)
    assert found is not None
    assert found.value == pytest.approx(np.sqrt(means[1] / means[0]))
    assert found.low < found.value < found.high


def test_one_face_for_all_has_no_spread():
    real = people(1)
    labels = np.arange(72) % 3
    same = Sample(features_ND=np.zeros((72, 4)), subjects_N=real.subjects_N)
    spread = distances.relative_spread(real, labels, same, labels)
    assert spread is not None and spread.value == 0
    own = distances.relative_spread(real, labels, real, labels)
    assert own is not None and own.value == pytest.approx(1)
    alone = Sample(features_ND=real.features_ND[:6], subjects_N=real.subjects_N[:6])
    assert distances.relative_spread(alone, labels[:6], alone, labels[:6]) is None

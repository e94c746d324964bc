"""Figures of synthesis, against scipy and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from trainer.scorecard import synthesis_scores
from trainer.scorecard.synthesis_scores import LEVELS, rank_1


def test_the_rank_correlation_is_that_of_scipy() -> None:
    """Ties too; a sweep in which nothing changes has none."""
    generator = np.random.default_rng(0)
    seen_BL = generator.normal(size=(30, len(LEVELS))).round(1)
    seen_BL[:5] = np.sort(seen_BL[:5], axis=1)
    expected = [spearmanr(LEVELS, row).statistic for row in seen_BL]
    found = synthesis_scores._spearman(np.concatenate([seen_BL, np.ones((1, len(LEVELS)))]))
    assert found[:-1] == pytest.approx(expected)
    assert found[-1] == 0


def test_retrieval_is_by_the_mean_of_a_subjects_other_faces() -> None:
    generator = np.random.default_rng(1)
    subjects = np.array(["a"] * 4 + ["b"] * 3 + ["c"] * 4 + ["alone"])
    known = generator.normal(size=(12, 5))
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    source = generator.integers(11, size=40)
    asked = known[source] + 0.8 * generator.normal(size=(40, 5))

    def nearest(face: np.ndarray, own: int) -> str:
        cosines = {}
        for name in np.unique(subjects):
            others = (subjects == name) & (np.arange(12) != own)
            mean = known[others].mean(axis=0)
            cosines[name] = face @ mean / np.linalg.norm(mean) if others.any() else -np.inf
        return max(cosines, key=lambda name: cosines[name])

    expected = [
        nearest(face, own) == subjects[own] for face, own in zip(asked, source, strict=True)
    ]
    assert rank_1(asked, source, known, subjects).tolist() == expected
    assert 0 < np.mean(expected) < 1
    assert np.isnan(rank_1(known[11:], np.array([11]), known, subjects)).all()

"""The simulations of pruning without subjects, in small."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pruning_errors import (
    EDITS,
    ERROR,
    Population,
    equals_given_up,
    one_fold,
    over_folds,
    population,
)


def made(noise: float) -> Population:
    generator = np.random.default_rng(0)
    values_T = np.linspace(0.6, 0.3, 12)
    return Population(values_T, np.zeros(10), generator.normal(0, noise, 400))


def test_a_population_has_the_spread_of_its_table_without_the_noise() -> None:
    generator = np.random.default_rng(0)
    effects_T, folds_F = np.linspace(0.1, -0.1, 40), np.linspace(-0.05, 0.05, 10)
    noise_TF = generator.normal(0, 0.1, (40, 10))
    found = population(0.5 + effects_T[:, None] + folds_F + noise_TF)
    assert found.values_T.std() == pytest.approx(effects_T.std(), rel=0.2)
    assert found.values_T[0] == found.values_T.max()
    assert found.noise_N.std() == pytest.approx(0.1, rel=0.1)
    assert found.folds_F == pytest.approx(folds_F, abs=0.05)


def test_without_noise_no_rule_gives_up_the_best_and_each_spares() -> None:
    several, alone = over_folds(made(0.0), 5, 5), one_fold(made(0.0), 5)
    assert several["best_given_up"] == 0 and several["median_given_up"] > 0
    assert alone["best_given_up"] == 0
    assert several["trainings"] < 0.9 and alone["images"] < 0.9


def test_noise_beyond_the_spread_loses_the_best_to_the_median_but_few_equals_by_folds() -> None:
    assert over_folds(made(0.3), 10, 20)["best_given_up"] > 0.1
    assert equals_given_up([EDITS], 10, 1, 0.1, 100) <= 0.06
    assert equals_given_up([EDITS, ERROR], 5, 20, 0.0, 20) <= 0.1

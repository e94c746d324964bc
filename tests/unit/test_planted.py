"""The planted problems have the answer that is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.planted import FOLDS, OWN, PROBLEMS, searched
from benchmarks.planted_training import true_recall
from trainer.config import RunConfig
from trainer.overrides import with_overrides
from trainer.steps import to_its_end


def setting(pixel: float, harmful: float, *, is_open: bool) -> RunConfig:
    values = {"weights.pixel": pixel, "weights.harmful": harmful, "gates.open": is_open}
    return with_overrides(OWN, {f"system.{name}": value for name, value in values.items()})


def test_the_small_net_has_an_inner_optimum_a_harmful_term_and_a_gate() -> None:
    best = true_recall(setting(0.5, 0.0, is_open=True))
    for worse in (
        setting(0.1, 0.0, is_open=True),
        setting(10.0, 0.0, is_open=True),
        setting(0.5, 1.0, is_open=True),
        setting(0.5, 0.0, is_open=False),
    ):
        assert true_recall(worse) < best - 0.01


def test_a_training_of_the_small_net_has_a_curve_and_stops_when_told() -> None:
    train, seen = PROBLEMS["trained"].train(0), []

    def watch(images: int, metrics: dict[str, float]) -> bool:
        seen.append((images, metrics["macro_recall"]))
        return len(seen) == 5

    options = {"fold": f"all:2/{FOLDS}", "on_validation": watch}
    done = to_its_end(train(OWN, Path(), **options))
    assert done.status == "finished" and len(seen) == 3
    assert 0.2 < done.validation["macro_recall"] < 1
    assert to_its_end(train(OWN, Path(), **options)).status == "pruned" and len(seen) == 5


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_a_short_search_ends_no_worse_than_it_began(name: str) -> None:
    problem = PROBLEMS[name]
    found = searched(problem, 0, 3)
    assert found["trainings"] <= 3 * FOLDS
    assert found["recall"] >= problem.truth(OWN) - 0.02

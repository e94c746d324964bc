"""What a search aims at: one objective or several, measured on validation subjects."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.studies import ERROR, PLAN, RECALL, RUN, work_on
from trainer.config import RunConfig
from tuning.objectives import measured, measuring, objectives_of, of_test
from tuning.results import FoldRecord, SearchResult, TrialRecord


def test_several_objectives_are_kept_whole(tmp_path: Path) -> None:
    def two(run: RunConfig, lake: Path, **_: Any) -> Any:
        weight = run.system.weights.pixel
        metrics = {"macro_recall": weight / 10, "reconstruction": weight / 5}
        return SimpleNamespace(
            run_id="run",
            directory=Path(),
            status="finished",
            validation=metrics,
            images_per_second=1.0,
        )

    plan = replace(PLAN, objectives=(RECALL, ERROR))
    records = work_on(tmp_path / "a.db", plan, trials=4, train=two)
    result = SearchResult(
        study="study",
        run_id=None,
        objectives=plan.objectives,
        trials=records,
        status="finished",
        seconds=0.0,
    )
    assert len(result.front) == 4
    assert result.best is max(records, key=lambda record: record.params["system.weights.pixel"])
    assert result.as_json()["best"]["values"]["reconstruction"] > 0


def test_objectives_by_what_a_system_can_do() -> None:
    spec: Any = SimpleNamespace(name="fake", capabilities=frozenset({"synthesise"}))
    assert [item.name for item in objectives_of(spec)] == ["edit_accuracy"]
    assert objectives_of(spec, ["reconstruction"]) == (ERROR,)
    names = "edit_accuracy, reconstruction, kernel_distance, identity_similarity, images_per_second"
    with pytest.raises(ValueError, match=f"valid: {names}"):
        objectives_of(spec, ["macro_recall"])


def test_an_objective_of_identity_asks_for_its_judge() -> None:
    spec: Any = SimpleNamespace(name="fake", capabilities=frozenset({"synthesise"}))
    aims = objectives_of(spec, ["kernel_distance", "identity_similarity"])
    assert [item.direction for item in aims] == ["minimize", "maximize"]
    assert measuring(RUN, aims).evaluation.identity
    assert measuring(RUN, aims[:1]) == RUN


def test_measured_values_are_of_validation_and_finite() -> None:
    assert measured([RECALL], {"macro_recall": 0.5, "accuracy": 0.7}, 9.0) == {"macro_recall": 0.5}
    with pytest.raises(ValueError, match="did not measure 'macro_recall'"):
        measured([RECALL], {"accuracy": 0.7}, 9.0)
    with pytest.raises(FloatingPointError, match="is nan"):
        measured([RECALL], {"macro_recall": math.nan}, 9.0)


def test_what_was_tested_is_found_under_the_name_that_was_searched_for() -> None:
    interval = {"value": 0.1, "low": 0.0, "high": 0.2}
    synthesis = {"reconstruction_error": interval, "identity_similarity": None}
    result = {"macro_recall": interval, "measures": {"synthesis": synthesis}, "scorecard": None}
    both = {"macro_recall": interval, "reconstruction": interval}
    assert of_test([RECALL, ERROR], result) == both
    similar = replace(ERROR, name="identity_similarity")
    assert of_test([similar, replace(ERROR, name="verification_auc")], result) == {}


def test_the_best_of_equals_is_the_earliest() -> None:
    trials = tuple(
        TrialRecord(
            number=number,
            params={},
            state="COMPLETE",
            folds={1: FoldRecord(values={"reconstruction": value})},
        )
        for number, value in enumerate([0.3, 0.2, 0.2])
    )
    result = SearchResult(
        study="study",
        run_id=None,
        objectives=(ERROR,),
        trials=trials,
        status="finished",
        seconds=0.0,
    )
    assert result.best is trials[1]

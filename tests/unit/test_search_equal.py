"""A setting that was trained to its end is not trained again: the trial takes over its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

from cluster import tables
from tests.studies import PLAN, essence, finished, quality, setup_of, work_on
from trainer.config import RunConfig
from tuning import trial_runs
from tuning.ending import cost_of
from tuning.objectives import SPEED, Objective
from tuning.results import FoldRecord, SearchResult, TrialRecord

TWO = replace(
    PLAN,
    distributions={"system.gate": CategoricalDistribution([False, True])},
    own={"system.gate": True},
    generation_size=1,
)
"""A search of two settings."""


class Trained:
    """A training that counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, run: RunConfig, lake: Path, *, fold: str | None, **_: Any) -> Any:
        self.count += 1
        value = quality(run, self.count) + run.system.gate
        return finished(run, macro_recall=value)


@pytest.mark.parametrize("num_folds", [1, 3])
def test_equal_settings_are_trained_once(num_folds: int, tmp_path: Path) -> None:
    plan, train = replace(TWO, num_folds=num_folds), Trained()
    work_on(tmp_path / "a.db", plan, trials=5, train=train)
    records = work_on(tmp_path / "a.db", plan, trials=8, train=train)
    complete = [record for record in records if record.state == "COMPLETE"]
    copies = [record for record in complete if record.same_as is not None]
    assert records[0].same_as is None and len(copies) >= 3
    for copy in copies:
        twin = records[copy.same_as]
        assert (copy.params, copy.values) == (twin.params, twin.values) and copy.seconds == 0
        assert twin.same_as is None and twin.number < copy.number
    assert cost_of(records).trainings == train.count
    alone = work_on(tmp_path / "alone.db", plan, trials=8, train=Trained())
    assert essence(alone) == essence(records)
    assert [one.same_as for one in alone] == [one.same_as for one in records]


def test_a_generation_takes_over_only_what_it_knows(tmp_path: Path) -> None:
    train = Trained()
    records = work_on(tmp_path / "a.db", replace(TWO, generation_size=2), trials=10, train=train)
    copies = [record for record in records if record.same_as is not None]
    assert copies and all(one.same_as < one.number // 2 * 2 - 2 for one in copies)


def test_speed_is_measured_anew(tmp_path: Path) -> None:
    train = Trained()
    speed = Objective(name=SPEED, direction="maximize", capability=None)
    records = work_on(tmp_path / "a.db", replace(TWO, objectives=(speed,)), trials=6, train=train)
    assert train.count == 6 and all(record.same_as is None for record in records)


def test_mlflow_and_the_table_say_whose_result_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, str]] = []
    monkeypatch.setattr(trial_runs, "create_run", lambda *_, tags, **__: told.append(tags))
    monkeypatch.setattr(trial_runs, "run_tags", lambda *_, **__: {})
    first = TrialRecord(number=3, params={"system.gate": True}, state="COMPLETE")
    first = first.with_fold(1, FoldRecord(values={"macro_recall": 0.5}))
    copy = replace(first, number=7, same_as=3)
    for record in (first, copy):
        trial_runs.create_trial_run(record, setup_of(TWO, Path("none")))
    assert [tags.get("mien.same_as") for tags in told] == [None, "trial 3"]
    result = SearchResult(
        study="study",
        run_id=None,
        objectives=TWO.objectives,
        trials=(first, copy),
        status="finished",
        seconds=1.0,
    )
    assert result.best == first
    states = list(tables.study(result.as_json())[0].columns[1].cells)
    assert states == ["complete", "complete, as trial 3"]

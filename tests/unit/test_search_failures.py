"""What goes wrong under a search, and what becomes of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution

from tests.studies import ERROR, PLAN, blank_database, essence, train, work_on
from trainer.config import RunConfig
from trainer.tracking.tracker import TrackingError
from tuning.results import TrialRecord
from tuning.study import Study


def test_a_trial_that_runs_out_of_memory_is_tried_again(tmp_path: Path) -> None:
    failures = [2]

    def starved(run: RunConfig, lake: Path, **rest: Any) -> Any:
        if not run.system.gate and failures[0]:
            failures[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(run, lake, **rest)

    records = work_on(tmp_path / "a.db", trials=8, train=starved)
    failed = [record for record in records if record.state == "FAIL"]
    assert len(failed) <= 1 and all("out of memory 2 times" in str(r.error) for r in failed)
    failures[0] = 1
    records = work_on(tmp_path / "b.db", trials=8, train=starved)
    assert failures[0] == 0 and all(record.state != "FAIL" for record in records)


def test_where_a_process_with_several_trainings_dies_none_of_them_is_to_blame(
    tmp_path: Path,
) -> None:
    study = Study(tmp_path / "a.db", replace(PLAN, generation_size=3), trials=3)
    numbers = []
    for _ in range(3):
        task = study.pull(slot=0)
        assert isinstance(task, TrialRecord)
        numbers.append(task.number)
    study.release(0)
    assert [(record.state, record.deaths) for record in study.records()] == [("WAITING", 0)] * 3
    assert isinstance(study.pull(slot=0), TrialRecord)
    assert study.pull(slot=0) == "wait", "one alone shows whose fault it was"
    assert isinstance(study.pull(slot=1), TrialRecord), "another slot keeps its lanes"
    study.release(0)
    assert [record.deaths for record in study.records()] == [1, 0, 0]
    study.close()


def test_a_search_that_loses_mlflow_stops_and_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    left = [3]

    def loses(run: RunConfig, lake: Path, **rest: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise TrackingError("MLflow at http://head:5000: no answer")
        return train(run, lake, **rest)

    stopped = work_on(tmp_path / "a.db", trials=6, train=loses)
    assert [record.state for record in stopped] == ["COMPLETE"] * 2 + ["WAITING"] * 4
    alone = work_on(tmp_path / "b.db", trials=6)
    assert essence(work_on(tmp_path / "a.db", trials=6)) == essence(alone)


def test_a_failing_trial_is_told_so_and_the_search_goes_on(tmp_path: Path) -> None:
    def fails(run: RunConfig, lake: Path, **rest: Any) -> Any:
        if not run.system.gate:
            raise FloatingPointError("term pixel is nan\nin step 3")
        return train(run, lake, **rest)

    records = work_on(tmp_path / "a.db", trials=8, train=fails)
    failed = [record for record in records if not record.params["system.gate"]]
    assert failed and all(record.state == "FAIL" for record in failed)
    assert failed[0].error == "FloatingPointError: term pixel is nan"
    assert essence(work_on(tmp_path / "a.db", trials=8, train=fails)) == essence(records)


def test_what_would_meet_every_trial_ends_the_search_and_can_be_mended(tmp_path: Path) -> None:
    def refuses(run: RunConfig, lake: Path, **rest: Any) -> Any:
        raise ValueError("the lake has 64 px, the run wants 128")

    records = work_on(tmp_path / "a.db", trials=4, train=refuses)
    assert [record.state for record in records] == ["WAITING", "WAITING"]
    assert all(record.state == "COMPLETE" for record in work_on(tmp_path / "a.db", trials=4))


def test_a_setting_whose_process_dies_twice_is_given_up(tmp_path: Path) -> None:
    study = Study(tmp_path / "a.db", PLAN, trials=2)
    for _ in range(2):
        task = study.pull(slot=0)
        assert isinstance(task, TrialRecord) and task.number in (0, 1)
        other = study.pull(slot=1)
        assert isinstance(other, TrialRecord)
        study.release(0)
        study.release(1)
    assert [record.state for record in study.records()] == ["FAIL", "FAIL"]
    assert study.pull(slot=0) is None
    study.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "another seed: it has 3, not 4"),
        ({"num_folds": 5}, "another folds: it has 1, not 5"),
        ({"about": {"run": "0", "lake": "1"}}, "another lake"),
        ({"objectives": (ERROR,)}, "another objectives"),
        ({"distributions": {"system.gate": CategoricalDistribution([False, True])}}, "space of"),
    ],
)
def test_a_study_of_another_search_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    Study(tmp_path / "a.db", PLAN, trials=2).close()
    with pytest.raises(ValueError, match=message):
        Study(tmp_path / "a.db", replace(PLAN, **change), trials=2)


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="cannot be used as a study: file is not a database"):
        Study(tmp_path / "a.db", PLAN, trials=2)


def test_a_database_that_is_locked_or_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.stored.BUSY_SECONDS", 0.05)
    path = tmp_path / "a.db"
    path.write_bytes(blank_database())
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match="cannot be used as a study: database is locked"):
            Study(path, PLAN, trials=2)
    with pytest.raises(ValueError, match="cannot be used as a study: unable to open"):
        Study(tmp_path / "gone" / "a.db", PLAN, trials=2)

"""What goes wrong under a search, and what becomes of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution

from cluster.home import tracking_uri
from cluster.lock import BusyError
from tests.made_runs import recorded
from tests.studies import (
    ERROR,
    PLAN,
    RUN,
    Interrupted,
    blank_database,
    essence,
    in_steps,
    setup_of,
    train,
    work_on,
)
from trainer.config import RunConfig
from trainer.tracking.tracker import TrackingError, create_run
from tuning import progress, search, slots, trial_runs
from tuning.results import FoldRecord, TrialRecord
from tuning.slots import RemoteStudy, StudyOwner
from tuning.stored import read_study
from tuning.study import Study
from tuning.trial import work


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


@pytest.mark.parametrize(
    "error",
    [TrackingError("MLflow at http://head:5000: no answer"), OSError("No space left on device")],
)
def test_a_search_that_loses_mlflow_or_its_disk_stops_and_goes_on_as_if_it_had_not(
    tmp_path: Path, error: Exception
) -> None:
    left = [3]

    def loses(run: RunConfig, lake: Path, **rest: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise error
        return train(run, lake, **rest)

    stopped = work_on(tmp_path / "a.db", trials=6, train=loses)
    assert [record.state for record in stopped] == ["COMPLETE"] * 2 + ["WAITING"] * 4
    alone = work_on(tmp_path / "b.db", trials=6)
    assert essence(work_on(tmp_path / "a.db", trials=6)) == essence(alone)


def test_an_accelerator_that_fails_takes_the_process_and_not_the_setting(tmp_path: Path) -> None:
    left = [2]

    def fails(run: RunConfig, lake: Path, **rest: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise torch.AcceleratorError("CUDA error: an illegal memory access")
        return train(run, lake, **rest)

    with pytest.raises(torch.AcceleratorError):
        work_on(tmp_path / "a.db", trials=4, train=fails)
    assert essence(work_on(tmp_path / "a.db", trials=4)) == essence(
        work_on(tmp_path / "b.db", trials=4)
    )


def test_a_run_that_a_lost_host_still_holds_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.trial.BUSY_SECONDS", 0.05)
    held = [3]

    def busy(run: RunConfig, lake: Path, **rest: Any) -> Any:
        held[0] -= 1
        if held[0] in (0, 1):
            raise BusyError("run a is being trained by another process")
        return train(run, lake, **rest)

    tried = work_on(tmp_path / "a.db", trials=4, train=busy)
    assert held[0] < 0 and essence(tried) == essence(work_on(tmp_path / "b.db", trials=4))


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
        given_up = study.release(0) + study.release(1)
    assert [record.state for record in given_up] == ["FAIL", "FAIL"]
    assert sorted(given_up, key=lambda record: record.number) == list(study.records())
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
    monkeypatch.setattr("tuning.databases.BUSY_SECONDS", 0.05)
    path = tmp_path / "a.db"
    path.write_bytes(blank_database())
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match="cannot be used as a study: database is locked"):
            Study(path, PLAN, trials=2)
    with pytest.raises(ValueError, match="cannot be used as a study: unable to open"):
        Study(tmp_path / "gone" / "a.db", PLAN, trials=2)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process writes in the database, and does not end."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_study_that_has_begun_and_is_locked_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.databases.BUSY_SECONDS", 0.05)
    path = tmp_path / "study.db"
    path.write_bytes(blank_database())
    study = Study(path, PLAN, trials=2)
    says = r"study\.db cannot be used as a study: database is locked"
    with locked(path):
        with pytest.raises(ValueError, match=says):
            Study(path, PLAN, trials=2)
        with pytest.raises(ValueError, match=rf"{says}; nothing is lost: --resume goes on"):
            study.keep("told", 2)
        assert read_study(path, path.stem)[0] == (), "who only reads is not kept from it"
    study.keep("told", 2)
    assert study.kept("told") == 2
    study.close()


def test_a_file_that_refuses_while_slots_work_ends_the_search_which_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.databases.BUSY_SECONDS", 0.05)
    monkeypatch.setattr(slots.ray, "get", lambda answer: answer)
    path = tmp_path / "study.db"
    path.write_bytes(blank_database())
    owner = StudyOwner(path, PLAN, trials=6)
    actor = SimpleNamespace(
        ask=SimpleNamespace(remote=owner.ask),
        is_stopping=SimpleNamespace(remote=owner.is_stopping),
        failure=SimpleNamespace(remote=owner.failure),
    )
    ledger, begun, told = RemoteStudy(actor), [], []

    def third_is_refused(run: RunConfig, lake: Path, **rest: Any) -> Any:
        begun.append(rest["name"])
        if len(begun) < 3:
            return train(run, lake, **rest)
        with locked(path):
            return train(run, lake, **rest)

    work(ledger, 0, setup_of(PLAN, path), in_steps(third_is_refused), told.append)
    assert len(begun) == 3 and [trial.number for trial in told] == [0, 1]
    assert ledger.is_stopping() and ledger.release(0) == () and ledger.pull(1) is None
    failure = str(ledger.failure())
    assert failure == (
        f"{path} cannot be used as a study: database is locked; nothing is lost: --resume goes on"
    )
    owner._study.close()
    alone = work_on(tmp_path / "alone.db", trials=6)
    assert essence(work_on(path, trials=6)) == essence(alone)


def test_a_run_that_is_stopped_by_itself_stops_the_search(tmp_path: Path) -> None:
    begun: list[str] = []

    def third_is_stopped(run: RunConfig, lake: Path, *, name: str, **rest: Any) -> Any:
        begun.append(name)
        assert len(begun) < 4, "it was begun again at once"
        done = train(run, lake, **rest)
        done.status = "stopped" if len(begun) == 3 else done.status
        done.validation = {} if len(begun) == 3 else done.validation
        return done

    records = work_on(tmp_path / "a.db", trials=6, train=third_is_stopped)
    assert begun == [f"trial {number} fold 1" for number in range(3)]
    states = [record.state for record in records]
    assert states[:3] == ["COMPLETE", "COMPLETE", "WAITING"] and set(states[3:]) == {"WAITING"}
    alone = work_on(tmp_path / "alone.db", trials=6)
    assert essence(work_on(tmp_path / "a.db", trials=6)) == essence(alone)


class Closed:
    """Stands for what tells MLflow; keeps how each run was closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: dict[str, str] = {}
        self.addresses: set[str] = set()
        for module in (trial_runs, progress):
            monkeypatch.setattr(module, "Tracker", self._tracker)

    def _tracker(self, uri: str, run_id: str, journal: Path, **_: Any) -> Any:
        self.addresses.add(uri)
        return SimpleNamespace(
            close=lambda status: self.runs.update({run_id: status}),
            metrics=lambda values, step: None,
            commit=lambda step: None,
        )


def blank_study(home: Path) -> Path:
    """The file of a study that has not begun."""
    path = home / "studies" / "study.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(blank_database())
    return path


def test_what_is_given_up_with_its_process_is_closed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, told = Closed(monkeypatch), []
    recorded(RUN, "fold1", parent="trial1")
    recorded(RUN, "fold2", parent="trial1")
    recorded(RUN, "other", parent="trial0")
    done = TrialRecord(
        number=1,
        params={},
        state="FAIL",
        run_id="trial1",
        folds={1: FoldRecord(values={"macro_recall": 0.5}, run_id="fold1")},
    )
    ledger: Any = SimpleNamespace(release=lambda slot: (done,) if slot == 2 else ())
    watcher = slots._Watcher(ledger, told.append)
    for slot in (1, 2):
        watcher.on_trial_recover(0, [], SimpleNamespace(config={"slot": slot}))
    assert told == [done]
    assert closed.runs == {"fold2": "FAILED", "trial1": "FAILED"}
    watcher.on_trial_error(0, [], SimpleNamespace(config={"slot": 2}))
    assert told == [done, done]


def test_a_killed_attempt_that_is_given_up_on_resume_is_closed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run: RunConfig, lake: Path, *, on_validation: Any, **rest: Any) -> Any:
        def kill(images: int, metrics: Any) -> bool:
            if on_validation(images, metrics):
                raise Interrupted
            return False

        return train(run, lake, on_validation=kill, **rest)

    path = tmp_path / "a.db"
    with pytest.raises(Interrupted):
        work_on(path, trials=13, train=killed)
    study = Study(path, PLAN, trials=13)
    number = next(one.number for one in study.records() if one.state == "WAITING" and one.folds)
    study._records[number] = replace(study._records[number], run_id="trial")
    closed, told = Closed(monkeypatch), []
    recorded(RUN, "fold", parent="trial")
    begun = sum(one.state in ("COMPLETE", "PRUNED") for one in study.records())
    work(study, 0, setup_of(PLAN, path), in_steps(train), told.append)
    assert next(one.state for one in told if one.number == number) == "PRUNED"
    assert begun + len(told) == 13
    assert closed.runs == {"fold": "KILLED", "trial": "KILLED"}
    study.close()


def test_what_an_earlier_attempt_of_a_complete_trial_left_is_closed(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = Closed(monkeypatch)
    own_home.mkdir(exist_ok=True)
    study = Study(own_home / "a.db", PLAN, trials=1)
    task = study.pull(0)
    assert isinstance(task, TrialRecord)
    study.set_trial_run(0, "trial")
    study.release(0)
    recorded(RUN, "lost", parent="trial", tracking_uri="http://gone:5000")
    setup = replace(setup_of(PLAN, own_home), study_run="study-run")
    monkeypatch.setattr("tuning.trial.begun_run", lambda *_: None)
    monkeypatch.setattr("tuning.trial.subjects_of", lambda *_: {})
    work(study, 0, setup, in_steps(train), lambda done: None)
    assert closed.runs == {"lost": "KILLED", "trial": "FINISHED"}
    assert closed.addresses == {tracking_uri()}, "where MLflow is by now"
    study.close()


def test_a_study_goes_on_in_its_own_experiment_and_mlflow(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Closed(monkeypatch)
    seen: list[str] = []

    def some(path: Path, plan: Any, setup: Any, trials: int, *_: Any) -> None:
        seen.append(setup.experiment)
        work_on(path, trials=trials)

    made: list[str] = []

    def create(plan: Any, setup: Any) -> str:
        made.append(create_run(tracking_uri(), setup.experiment, "study", tags={}, params={}))
        return made[-1]

    monkeypatch.setattr(search, "create_study_run", create)
    monkeypatch.setattr(search, "_search", some)
    monkeypatch.setattr("tuning.ending.tell_ending", lambda result: None)
    path = blank_study(own_home)
    first = replace(setup_of(PLAN, path), experiment="first", unseen="1/10")
    assert search.run_study(PLAN, first, trials=2, parallel=1).unseen == "1/10"
    search.run_study(PLAN, replace(first, experiment="other"), trials=3, parallel=1)
    assert seen == ["first", "first"]
    (own_home / "mlflow.db").rename(own_home / "moved.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_home}/moved.db")
    search.run_study(PLAN, first, trials=4, parallel=1)  # the same, by another address
    assert len(made) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_home}/other.db")
    search.run_study(PLAN, first, trials=4, parallel=1)  # nothing is left to be told
    with pytest.raises(ValueError, match=r"other\.db has no run of study 'study', which began in"):
        search.run_study(PLAN, first, trials=5, parallel=1)


@pytest.mark.parametrize(("done", "status"), [(2, "KILLED"), (3, "FINISHED")])
def test_mlflow_hears_of_a_search_that_was_stopped(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, done: int, status: str
) -> None:
    closed = Closed(monkeypatch)

    def only_some(path: Path, *_: Any) -> None:
        work_on(path, trials=done)

    monkeypatch.setattr(search, "create_study_run", lambda plan, setup: "study-run")
    monkeypatch.setattr(search, "_search", only_some)
    monkeypatch.setattr("tuning.ending.tell_ending", lambda result: None)
    path = blank_study(own_home)
    search.run_study(PLAN, setup_of(PLAN, path), trials=3, parallel=1)
    assert closed.runs == {"study-run": status}

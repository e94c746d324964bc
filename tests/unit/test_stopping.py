"""A run that was stopped ends what it is a part of; one that has finished is not done again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.made_runs import recorded
from trainer import catalog, crossval, job, launch, reproduce
from trainer.launch import RunResult
from trainer.published import table_named

RUN = catalog.recipe("baseline.tiny")
LAKE = Path("lake")


def result(directory: Path, status: str) -> RunResult:
    return RunResult(
        run_id=directory.name,
        directory=directory,
        status=status,
        steps=1,
        images=32,
        images_per_second=7.0,
        first_step_seconds=1.0,
        validation={},
        scorecard=None,
    )


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every training is stopped at once; the folds that were begun."""
    begun: list[str] = []

    def train(run: Any, lake: Path, *, fold: str, **_: Any) -> RunResult:
        begun.append(fold)
        return result(Path("aaaa"), "stopped")

    monkeypatch.setattr(launch, "train", train)
    return begun


JOB = crossval.CrossvalJob(
    run_id="bbbb",
    directory=Path("bbbb"),
    run=RUN,
    lake=LAKE,
    lake_hash="",
    folds=3,
    tracking_uri="",
    experiment="test",
)


def untold(done: int, folds: int) -> None:
    """Nobody watches."""


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tuple(crossval._train_all(JOB, 1, threading.Event(), untold))


def as_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(
        remote=lambda **_: lambda task: SimpleNamespace(remote=task),
        wait=lambda found, num_returns, timeout: (found[:1], found[1:]),
        get=lambda reference: reference,
    )
    fold_of = crossval._train_fold
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(crossval, "_train_fold", lambda *given: Reference(fold_of(*given)))
    tuple(crossval._in_processes(JOB, 1, {"CPU": 1.0}, threading.Event(), untold))


class Reference:
    """What stands for a task's result, by its identity."""

    def __init__(self, found: RunResult) -> None:
        self.status, self.run_id = found.status, found.run_id


def official(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_named("rafdb")
    tuple(reproduce._ours(table.entries[0], table, RUN, [LAKE], "official", 1, "test", False))


def test_a_fold_that_fails_lets_the_others_save(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are under way when the first fails; the third is not begun, the second is waited for."""
    stop_file = recorded(RUN, "aaaa", parent=JOB.run_id, fold="2/3").stop_file
    asked: list[bool] = []

    def get(fold: str) -> RunResult:
        if fold == "1/3":
            raise RuntimeError("out of memory")
        asked.append(stop_file.exists())
        return result(Path("aaaa"), "stopped")

    task = SimpleNamespace(remote=lambda job, fold: fold)
    ray = SimpleNamespace(
        remote=lambda **_: lambda _: task,
        wait=lambda found, num_returns, timeout: (found[:1], found[1:]),
        get=get,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(RuntimeError, match="out of memory"):
        tuple(crossval._in_processes(JOB, 2, {"CPU": 1.0}, threading.Event(), untold))
    assert asked == [True]


@pytest.mark.parametrize("loop", [one_by_one, as_tasks, official])
def test_nothing_follows_a_stopped_run(
    loop: Callable[[pytest.MonkeyPatch], None],
    stopping: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop(monkeypatch)
    assert len(stopping) == 1


def test_a_crossvalidation_tells_how_many_folds_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "train", lambda *_, fold, **__: result(Path(fold), "finished"))
    told: list[tuple[int, ...]] = []
    tuple(crossval._train_all(JOB, 1, threading.Event(), lambda *counts: told.append(counts)))
    assert told == [(0, 3), (1, 3), (2, 3)]


def written(directory: Path, status: str) -> RunResult:
    directory.mkdir(parents=True, exist_ok=True)
    found = result(directory, status)
    values = {name: getattr(found, name) for name in RunResult.__slots__ if name != "directory"}
    job.write_json(directory / "result.json", values)
    return found


def test_only_what_finished_has_a_result_that_is_taken_over(tmp_path: Path) -> None:
    done = written(tmp_path / "aaaa", "finished")
    assert RunResult.finished(done.directory) == done
    for status in ("stopped", "pruned"):
        assert RunResult.finished(written(tmp_path / status, status).directory) is None
    assert RunResult.finished(tmp_path / "none") is None


def test_to_go_on_with_a_finished_run_returns_it(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = own_home / "runs" / "aaaa"
    done = written(directory, "finished")
    recorded(RUN)
    before = (directory / "result.json").read_bytes()
    monkeypatch.setattr(launch, "work_in_steps", lambda *_: pytest.fail("it trains or tests again"))
    told: list[str] = []
    monkeypatch.setattr(launch, "deliver_result", lambda job: told.append(job.run_id))
    assert launch.train(replace(RUN, seed=9), LAKE, resume="aaaa") == done
    assert (directory / "result.json").read_bytes() == before and told == ["aaaa"]


def test_a_run_that_finishes_before_the_lock_is_free_is_not_concluded_again(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = own_home / "runs" / "aaaa"
    recorded(RUN)
    held = launch.held

    def ends_meanwhile(path: Path, busy: str) -> Any:
        lock = held(path, busy)
        written(directory, "finished")
        return lock

    monkeypatch.setattr(launch, "held", ends_meanwhile)
    monkeypatch.setattr(launch, "work_in_steps", lambda *_: pytest.fail("it is tested again"))
    monkeypatch.setattr(launch, "deliver_result", lambda job: None)
    assert launch.train(RUN, LAKE, resume="aaaa") == result(directory, "finished")

"""The test that a search ends with: once for each setting, told whole, and whether it is first."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cluster import tables
from cluster.home import runs_dir
from tests.made_runs import recorded
from tests.studies import PLAN, finished, setup_of, work_on
from trainer import job
from trainer.config import RunConfig
from trainer.launch import RunResult
from trainer.steps import Steps
from tuning import ending, progress
from tuning.ending import conclude, over_subjects
from tuning.objectives import Objective
from tuning.results import FoldRecord, SearchResult, TrialRecord
from tuning.study import Study

EDITS = {"value": 0.5, "low": 0.4, "high": 0.6}
RESULT = {
    "status": "finished",
    "steps": 1,
    "images": 32,
    "images_per_second": 7.0,
    "first_step_seconds": 1.0,
    "validation": {},
    "scorecard": None,
    "measures": {
        "synthesis": {"edit_accuracy": EDITS, "kernel_distance": None},
        "identification": {"verification_auc": 0.75},
    },
}


class Outer:
    """Trainings on the outer fold, each of which can be stopped; what was asked of them."""

    def __init__(self, stopped: int = 0) -> None:
        self.stopped = stopped
        self.begun: list[str] = []
        self.resumed: list[str | None] = []

    def __call__(
        self, run: RunConfig, lake: Path, *, resume: str | None, fold: str, parent: str, **_: Any
    ) -> Steps[RunResult]:
        yield
        self.resumed.append(resume)
        run_id = resume or f"test{len(self.begun)}"
        if resume is None:
            self.begun.append(run_id)
            recorded(run, run_id, fold=fold, parent=parent)
        if done := RunResult.finished(runs_dir() / run_id):
            return done
        self.stopped -= 1
        status = "stopped" if self.stopped == 0 else "finished"
        job.write_json(
            runs_dir() / run_id / "result.json", {**RESULT, "run_id": run_id, "status": status}
        )
        return RunResult.read(runs_dir() / run_id)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What MLflow hears of endings: of how many trials, or that the test was stopped."""
    heard: list[Any] = []
    monkeypatch.setattr(ending, "tell_ending", lambda result: heard.append(result.num_ended))
    monkeypatch.setattr(ending, "tell_stopped", lambda result: heard.append("stopped"))
    return heard


def ended(path: Path, trials: int, train: Outer) -> SearchResult:
    """A search whose later trials are the better ones, and its test."""

    def rising(run: RunConfig, lake: Path, *, name: str, **_: Any) -> Any:
        return finished(run, macro_recall=int(name.split()[1]) / 100)

    work_on(path, trials=trials, train=rising)
    study = Study(path, PLAN, trials=trials)
    try:
        setup = replace(setup_of(PLAN, path), outer="1/3", study_run="study-run")
        return conclude(study, setup, train)
    finally:
        study.close()


def test_a_longer_search_tests_its_new_best_and_tells_of_the_test_before(
    tmp_path: Path, told: list[Any]
) -> None:
    train = Outer()
    first = ended(tmp_path / "a.db", 3, train)
    assert ended(tmp_path / "a.db", 3, train).outer == first.outer
    assert told == [3] and train.begun == ["test0", "test1"] and first.tested_before == ()
    longer = ended(tmp_path / "a.db", 5, train)
    assert told == [3, 5] and train.begun == ["test0", "test1", "test2"]
    assert [card["run_id"] for card in longer.outer.values()] == ["test0", "test2"]
    assert longer.tested_before == (2,) and longer.as_json()["tested_before"] == [2]
    assert ended(tmp_path / "a.db", 5, train).tested_before == (2,)
    assert "no untouched test of trial 4: these subjects had tested trial 2 before" in shown(longer)


def test_a_stopped_test_goes_on_and_the_way_to_it_is_that_of_the_search(
    tmp_path: Path, told: list[Any]
) -> None:
    train = Outer(stopped=2)
    with pytest.raises(KeyboardInterrupt, match=r"mien tune \.\.\. --name study --resume"):
        ended(tmp_path / "a.db", 3, train)
    assert told == ["stopped"] and train.resumed == [None, None]
    found = ended(tmp_path / "a.db", 3, train)
    assert train.resumed[2:] == ["test0", "test1"] and train.begun == ["test0", "test1"]
    assert found.outer["best"]["status"] == "finished" and told == ["stopped", 3]


def test_a_test_that_was_stopped_has_seen_nothing(tmp_path: Path, told: list[Any]) -> None:
    train = Outer(stopped=2)
    with pytest.raises(KeyboardInterrupt):
        ended(tmp_path / "a.db", 3, train)
    assert ended(tmp_path / "a.db", 5, train).tested_before == ()


def test_an_own_setting_that_is_the_best_is_tested_once(tmp_path: Path, told: list[Any]) -> None:
    train = Outer()
    found = ended(tmp_path / "a.db", 1, train)
    assert train.begun == ["test0"] and found.outer["best"] == found.outer["own"]
    assert ended(tmp_path / "a.db", 3, train).tested_before == (0,)


def shown(result: SearchResult) -> str:
    text = io.StringIO()
    console = Console(width=200, file=text)
    for one in tables.study(result.as_json()):
        console.print(one)
    return text.getvalue()


def aim(name: str) -> Objective:
    return Objective(name=name, direction="maximize", capability=None)


def searched(*names: str, **more: Any) -> SearchResult:
    """A search with one trial, for the best of these objectives."""
    fold = FoldRecord(
        values=dict.fromkeys(names, 0.5), subjects={"a": ((0, 0, 4), (1, 0, 1)), "b": ((1, 1, 3),)}
    )
    return SearchResult(
        study="study",
        run_id="aaaa",
        objectives=tuple(map(aim, names)),
        trials=(TrialRecord(number=0, params={}, state="COMPLETE", folds={1: fold}),),
        status="finished",
        seconds=0.0,
        **more,
    )


def test_what_does_not_recognise_is_shown_and_told_by_what_was_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, float] = {}

    def metrics(values: Mapping[str, float], step: int) -> None:
        sent.update(values)

    fake = SimpleNamespace(metrics=metrics, close=lambda status: None)
    monkeypatch.setattr(progress, "Tracker", lambda *_, **__: fake)
    names = ("edit_accuracy", "verification_auc", "kernel_distance", "images_per_second")
    result = searched(*names)
    setup = replace(setup_of(PLAN, tmp_path), outer="1/3", study_run="study-run")
    result = replace(result, outer=ending.outer_test(setup, result, Outer()))
    text = shown(result)
    assert "edit_accuracy" in text and "0.500 [0.400, 0.600]" in text and "0.750" in text
    assert "macro_recall" not in text and "validation images_per_second" not in text
    progress.tell_ending(result)
    assert sent == {
        "outer/tested_before": 0,
        **{
            f"outer/{name}_{figure}": value
            for name in ("own", "best")
            for figure, value in (
                ("edit_accuracy", 0.5),
                ("edit_accuracy_low", 0.4),
                ("edit_accuracy_high", 0.6),
                ("verification_auc", 0.75),
                ("images_per_second", 7.0),
            )
        },
    }


def test_trials_are_shown_as_of_validation_and_the_best_with_its_interval() -> None:
    result = searched("macro_recall")
    found = over_subjects(result)
    assert found["value"] == pytest.approx(0.875) and found["num_subjects"] == 2
    assert found["low"] < found["value"] < found["high"]
    text = shown(replace(result, validation=found))
    assert "validation macro_recall" in text
    assert "chosen by its macro_recall 0.875 [" in text
    assert "on validation subjects (2), which flatters it; to train it" in text
    assert over_subjects(searched("edit_accuracy")) == {}
    assert "chosen by validation subjects; to train it" in shown(searched("edit_accuracy"))

"""Lanes of a slot: trials take turns, are refilled, become fewer where memory runs out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cluster import limits
from tests import studies
from trainer.config import RunConfig
from trainer.steps import Steps
from trainer.training import DueStep
from tuning import lanes as lanes_module
from tuning import trial as trials_module
from tuning.fused import LostStepError
from tuning.lanes import Company, Lane, take_turns
from tuning.results import TrialRecord
from tuning.setup import Setup
from tuning.study import Study
from tuning.trial import work

WEIGHT = "system.weights.pixel"
PLAN = replace(
    studies.PLAN,
    distributions={WEIGHT: studies.PLAN.distributions[WEIGHT]},
    own={WEIGHT: 1.0},
    generation_size=3,
)


class Training:
    """Trainings of ten steps, best at a weight of 4, and what went on in which order."""

    def __init__(self, starved: int = 0, lost: int = 0) -> None:
        self.steps: list[str] = []
        self.most, self.open = 0, 0
        self.starved, self.lost = starved, lost

    def __call__(
        self, run: RunConfig, lake: Path, *, name: str, on_validation: Any, **_: Any
    ) -> Steps[Any]:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            quality = math.exp(-((run.system.weights.pixel - 4) ** 2) / 8)
            status = "finished"
            for step in range(1, 11):
                if step == 5 and self.open > 1 and self.starved:
                    self.starved -= 1
                    self.most = 0
                    raise torch.OutOfMemoryError("CUDA out of memory")
                self.steps.append(name)
                yield
                if step == 5 and self.lost:
                    self.lost -= 1
                    raise LostStepError("a lane beside it ran out of memory")
                if on_validation(step, {"macro_recall": quality * step / 10}):
                    status = "pruned"
                    break
        finally:
            self.open -= 1
        return SimpleNamespace(
            run_id=name,
            directory=Path(),
            status=status,
            validation={"macro_recall": quality},
            images_per_second=1.0,
        )


def searched(path: Path, train: Training, lanes: int, trials: int = 18) -> tuple[TrialRecord, ...]:
    path.write_bytes(studies.blank_database())
    study = Study(path, PLAN, trials=trials)
    setup = Setup(
        run=studies.RUN,
        lake=path,
        lake_hash="0",
        experiment="mien",
        objectives=PLAN.objectives,
        num_folds=1,
        lanes=lanes,
    )
    try:
        work(study, 0, setup, train, lambda trial: None)
        return study.records()
    finally:
        study.close()


def ends(records: tuple[TrialRecord, ...]) -> list[Any]:
    return [
        (
            one.number,
            one.params,
            one.state,
            {k: replace(f, seconds=0) for k, f in one.folds.items()},
        )
        for one in records
    ]


def test_trials_take_turns_and_end_as_they_would_alone(tmp_path: Path) -> None:
    alone, together = Training(), Training()
    expected = searched(tmp_path / "alone.db", alone, lanes=1)
    found = searched(tmp_path / "lanes.db", together, lanes=3)
    assert ends(found) == ends(expected)
    assert {one.state for one in found} == {"COMPLETE", "PRUNED"}
    assert (alone.most, together.most) == (1, 3)
    assert together.steps[3:9] == [f"trial {n} fold 1" for n in (0, 1, 2, 0, 1, 2)]


def test_a_lane_whose_trial_is_pruned_takes_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "POLL_SECONDS", 0)
    train = Training()
    records = searched(tmp_path / "a.db", train, lanes=2)
    pruned = next(one for one in records if one.state == "PRUNED" and one.number % 3 < 2)
    names = train.steps
    last = max(i for i, name in enumerate(names) if name == f"trial {pruned.number} fold 1")
    beside = names[last + 1 : last + 3]
    assert len(set(beside)) == 2, f"both lanes go on: {beside}"


def test_where_memory_runs_out_a_trial_is_tried_again_in_fewer_lanes(tmp_path: Path) -> None:
    expected = searched(tmp_path / "alone.db", Training(), lanes=1)
    train = Training(starved=2)
    found = searched(tmp_path / "lanes.db", train, lanes=3)
    assert train.starved == 0 and train.most == 1, "three lanes, then two, then one"
    assert ends(found) == ends(expected)


def test_a_step_that_was_lost_is_gone_back_for(tmp_path: Path) -> None:
    expected = searched(tmp_path / "alone.db", Training(), lanes=1)
    train = Training(lost=4)
    found = searched(tmp_path / "lanes.db", train, lanes=3)
    assert train.lost == 0 and train.most == 3, "no lane is given up"
    assert ends(found) == ends(expected)


def test_a_lane_begins_only_where_there_is_memory_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Company, "has_room", lambda company: len(company._taken) < 2)
    train = Training()
    found = searched(tmp_path / "a.db", train, lanes=3)
    assert train.most == 2 and len(found) == 18


def test_a_lane_that_waits_keeps_its_place() -> None:
    """The first of those that were taken together is the first to hear what came of it."""
    nothing: Any = None

    def lane(name: str) -> Lane:
        for number in range(2):
            heard.append(f"{name}{number}")
            yield DueStep(
                training=nothing, stage=nothing, batch=nothing, signals=(), weights={name: number}
            )

    def together(steps: Sequence[DueStep]) -> Sequence[DueStep]:
        due.append([dict(step.weights) for step in steps])
        return steps[:1] if len(due) == 1 else ()

    heard: list[str] = []
    due: list[Any] = []
    take_turns([lane("a"), lane("b")], together)
    assert due == [[{"a": 0}, {"b": 0}], [{"a": 0}, {"b": 1}], [{"a": 1}], []]
    assert heard == ["a0", "b0", "b1", "a1"]


def test_a_lane_begins_when_those_beside_it_have_taken_a_step(tmp_path: Path) -> None:
    train = Training()
    searched(tmp_path / "a.db", train, lanes=3)
    assert train.steps[:4] == [f"trial {n} fold 1" for n in (0, 0, 1, 0)], (
        "a step tells what it needs"
    )


def test_room_is_what_a_lane_has_needed_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    free, most = [101], [80]
    monkeypatch.setattr(lanes_module, "_free_bytes", lambda: free[0])
    monkeypatch.setattr(lanes_module, "_most_bytes", lambda: most[0])
    monkeypatch.setattr(lanes_module, "_kept_bytes", lambda: 0)
    company = Company()
    assert company.has_room(), "for the first there is"
    first, second = (company.joined(number, iter_of(3)) for number in (0, 1))
    next(first)
    assert not company.has_room(), "what it needs is not known before its first step"
    next(first)
    assert company.has_room(), "80 bytes, and a quarter more"
    free[0] = 100
    assert not company.has_room()
    next(second)
    next(second)
    most[0] = 120
    assert not company.has_room(), "what one needed at most is not forgotten"
    assert [*first] == [None]
    free[0] = 151
    assert company.has_room(), "120 bytes were those of two"
    assert [*second] == [None]
    assert company.has_room()


def test_there_is_no_more_room_than_the_control_group_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used(number: int) -> None:
        (tmp_path / "memory.current").write_text(str(number))

    (tmp_path / "membership").write_text("0::/\n")
    (tmp_path / "memory.max").write_text("1000")
    monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(lanes_module, "_most_bytes", lambda: 80)
    monkeypatch.setattr(lanes_module, "_kept_bytes", lambda: 0)
    company = Company()
    lane = company.joined(0, iter_of(2))
    next(lane)
    next(lane)
    used(901)
    assert not company.has_room(), "99 bytes are left, and 100 wanted"
    used(899)
    assert company.has_room()


def iter_of(count: int) -> Steps[None]:
    for _ in range(count):
        yield

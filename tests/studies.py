"""What tests of the search begin with: a made-up system, its plan, trainings of no time."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

from trainer.config import RunConfig, knob, weight
from trainer.steps import Steps
from tuning.databases import Where
from tuning.objectives import Objective
from tuning.plan import Plan
from tuning.results import TrialRecord
from tuning.setup import Setup
from tuning.study import Study
from tuning.trial import Train, work

RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")
ERROR = Objective(name="reconstruction", direction="minimize", capability="synthesise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    pixel: float = weight(1.0, paper="lambda_1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    weights: Weights = Weights()
    gate: bool = knob(True)


RUN = RunConfig(system_name="fake", recipe="tiny", system=Settings())
PLAN = Plan(
    name="study",
    distributions={
        "system.weights.pixel": FloatDistribution(0.0, 10.0),
        "system.gate": CategoricalDistribution([False, True]),
    },
    own={"system.weights.pixel": 1.0, "system.gate": True},
    objectives=(RECALL,),
    num_folds=1,
    generation_size=2,
    seed=3,
    about={"run": "0", "lake": "0"},
    sampler="tpe",
)


class Interrupted(BaseException):
    """Stands for a kill: nothing below may catch it."""


def quality(run: RunConfig, fold: int) -> float:
    """Best at a weight of 4, a little different in every fold."""
    return math.exp(-((run.system.weights.pixel - 4) ** 2) / 8) + 0.01 * fold


def train(run: RunConfig, lake: Path, *, fold: str | None, on_validation: Any, **_: Any) -> Any:
    """A training of ten validations whose curve rises to the setting's quality."""
    index = int((fold or "1/1").rpartition(":")[2].partition("/")[0])
    for step in range(1, 11):
        value = quality(run, index) * step / 10
        if on_validation(step * 100, {"macro_recall": value}):
            return SimpleNamespace(
                run_id="run",
                directory=Path(),
                status="pruned",
                validation={},
                images_per_second=1.0,
            )
    return SimpleNamespace(
        run_id="run",
        directory=Path(),
        status="finished",
        validation={"macro_recall": quality(run, index)},
        images_per_second=1.0,
    )


def in_steps(train: Callable[..., Any]) -> Train:
    """The training as one step."""

    def steps(*arguments: Any, **options: Any) -> Steps[Any]:
        yield
        return train(*arguments, **options)

    return steps


def setup_of(plan: Plan, path: Path, lanes: int = 1) -> Setup:
    return Setup(
        run=RUN,
        lake=path,
        lake_hash="0",
        experiment="mien",
        objectives=plan.objectives,
        num_folds=plan.num_folds,
        lanes=lanes,
    )


def work_on(
    where: Where,
    plan: Plan = PLAN,
    *,
    trials: int,
    train: Callable[..., Any] = train,
    lanes: int = 1,
) -> Any:
    if isinstance(where, Path) and not where.exists():
        where.write_bytes(blank_database())
    study = Study(where, plan, trials=trials)
    try:
        work(study, 0, setup_of(plan, Path("none"), lanes), in_steps(train), lambda trial: None)
        return study.records()
    finally:
        study.close()


def essence(records: tuple[TrialRecord, ...]) -> list[Any]:
    return [
        (record.number, dict(record.params), record.state, record.values, record.error)
        for record in records
    ]


def finished(run: RunConfig, directory: Path = Path(), **metrics: float) -> Any:
    return SimpleNamespace(
        run_id="run",
        directory=directory,
        status="finished",
        validation=metrics,
        images_per_second=1.0,
    )


@cache
def blank_database() -> bytes:
    """Optuna's tables, which take longer to make than what is tested."""
    with tempfile.TemporaryDirectory() as folder:
        optuna.storages.RDBStorage(f"sqlite:///{folder}/blank.db").engine.dispose()
        return Path(folder, "blank.db").read_bytes()

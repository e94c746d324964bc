"""The search space is checked against the run's knobs before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from trainer.config import RunConfig, knob, weight
from trainer.schedules import Ramp, Schedule
from tuning.space import search_space


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    pixel: Schedule = weight(1.0, paper="lambda_1")
    identity: Schedule = weight(0.5, paper="lambda_2", bounds=(0.0, 2.0))
    critic: Schedule = weight(0.0, paper="lambda_3")
    own: Schedule = weight(1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    open: bool = knob(True)
    granularity: Literal["pixel", "channel"] = knob("pixel")
    bias: float = knob(0.0, bounds=(-4.0, 4.0))
    temperature: float = knob(1.0, bounds=(0.1, 10.0), log=True)
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    weights: Weights = field(default_factory=Weights)
    gates: Gates = field(default_factory=Gates)
    width: int = knob(16, bounds=(1, 512))


@pytest.fixture
def run() -> RunConfig:
    return RunConfig(system_name="fake", recipe="tiny", system=Settings())


def test_ready_space_has_the_papers_weights_and_the_gates(run: RunConfig) -> None:
    space = search_space(run)
    assert dict(space.distributions) == {
        "system.weights.pixel": FloatDistribution(0.1, 10.0, log=True),
        "system.weights.identity": FloatDistribution(0.05, 2.0, log=True),
        "system.weights.critic": FloatDistribution(0.0, 10.0),
        "system.gates.open": CategoricalDistribution([False, True]),
        "system.gates.granularity": CategoricalDistribution(["pixel", "channel"]),
        "system.gates.bias": FloatDistribution(-4.0, 4.0),
        "system.gates.temperature": FloatDistribution(0.1, 10.0, log=True),
    }
    assert set(space.own) == set(space.distributions)
    assert space.own["system.weights.identity"] == 0.5


def test_a_range_by_alias_by_path_and_in_whole_numbers(run: RunConfig) -> None:
    space = search_space(run, ["lambda_1=0:2", "system.width=8:64:log", "lambda_2=0.1:1:log"])
    assert dict(space.distributions) == {
        "system.weights.pixel": FloatDistribution(0.0, 2.0),
        "system.width": IntDistribution(8, 64, log=True),
        "system.weights.identity": FloatDistribution(0.1, 1.0, log=True),
    }


def test_listed_values_have_the_settings_type(run: RunConfig) -> None:
    space = search_space(run, ["system.gates.open=on,off", "system.width=8,16"])
    assert space.distributions["system.gates.open"] == CategoricalDistribution([True, False])
    assert space.distributions["system.width"] == CategoricalDistribution([8, 16])


def test_bare_names_and_patterns_take_the_ready_range(run: RunConfig) -> None:
    space = search_space(run, ["lambda_*", "system.gates.bias"])
    assert list(space.distributions) == [
        "system.weights.pixel",
        "system.weights.identity",
        "system.weights.critic",
        "system.gates.bias",
    ]


def test_an_own_value_outside_the_space_is_left_out(run: RunConfig) -> None:
    assert search_space(run, ["lambda_1=2:4", "lambda_2=0:1"]).own == {
        "system.weights.identity": 0.5
    }
    ramped = RunConfig(
        system_name="fake",
        recipe="tiny",
        system=Settings(weights=Weights(pixel=Ramp(start=0, end=1))),
    )
    assert search_space(ramped, ["lambda_1=0:2"]).own == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system.gates.bais=0:1", "unknown setting.*system.gates.bias"),
        ("lambda_9=0:1", "unknown setting 'lambda_9'.*lambda_1"),
        ("lambda_1=2:1", "empty"),
        ("lambda_1=1:1", "empty"),
        ("lambda_1=0:1:log", "above zero"),
        ("lambda_1=0:11", "valid: 0.0 to 10.0"),
        ("system.gates.bias=-5:1", "valid: -4.0 to 4.0"),
        ("lambda_1=a:b", "'a' is not a finite number"),
        ("lambda_1=0:inf", "'inf' is not a finite number"),
        ("lambda_1=0:1:ln", "LOW:HIGH:log"),
        ("system.gates.granularity=0:1", "valid: pixel, channel"),
        ("system.gates.granularity=pixel,scalar", "valid: pixel, channel"),
        ("system.gates.open=", "lists no value"),
        ("system.width=8:9.5", "an int|invalid literal"),
        ("system.width=8,8", "twice"),
        ("system.gates.note", "no range of its own"),
        ("nothing.*", "names no setting"),
    ],
)
def test_wrong_input_is_one_line(run: RunConfig, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        search_space(run, [text])
    assert "\n" not in str(caught.value)


def test_a_setting_is_searched_once(run: RunConfig) -> None:
    with pytest.raises(ValueError, match="twice"):
        search_space(run, ["lambda_1=0:1", "system.weights.pixel=0:1"])

"""Trainings of one kin in one pass come to what each comes to alone, for every system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.contract import batches as made_of
from trainer import catalog, noise
from trainer.averages import Averages
from trainer.config import RunConfig, weights_of
from trainer.kin import kin_of
from trainer.loop import due_steps, fit
from trainer.overrides import knobs, with_overrides
from trainer.training import StepResult, Training
from trainer.world import World
from tuning.fused import Fused

STEPS, WITHIN, BATCH_IMAGES = 20, 1e-9, 4
SYSTEMS = [name for name in catalog.names() if not catalog.load(name).not_in_one_pass]
OTHERS = [name for name in catalog.names() if catalog.load(name).not_in_one_pass]


@pytest.fixture(autouse=True)
def all_in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    uniform = noise.keyed_uniform
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(noise, "keyed_uniform", lambda *given: uniform(*given).double())
    monkeypatch.setattr(made_of, "keyed_uniform", lambda *given: uniform(*given).double())
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def runs(name: str) -> list[RunConfig]:
    """The tiny recipe, and one with other weights, rates and gates."""
    run = made_of.tiny(name, **{"data.global_batch_images": BATCH_IMAGES})
    paths = [knob.path for knob in knobs(run)]
    other: dict[str, Any] = {
        f"system.weights.{term}": 0.7 for term, w in weights_of(run).items() if w
    }
    other |= {
        "system.gates.temperature": 1.7,
        "system.gates.leak_bias": -0.5,
        "system.optimizer.learning_rate": 3e-4,
    }
    return [run, with_overrides(run, {k: value for k, value in other.items() if k in paths})]


def lanes(name: str) -> list[Training]:
    found = []
    for run in runs(name):
        stages = len(made_of.training(run, World.alone()).stages)
        one = made_of.training(run, World.alone(), steps_per_stage=-(-STEPS // stages))
        for network in (*one.system.frozen().values(), *(p.module for p in one.players.values())):
            network.double()
        one.averages = Averages(tuple(one.players.values()))
        one.kin = kin_of(run, catalog.load(name), made_of.info_of(run))
        found.append(one)
    return found


def told(result: StepResult, training: Training) -> dict[str, float]:
    """Every term and every gate of a step."""
    gates = training.system.gates() if result.gates is None else result.gates
    return {key: float(value) for key, value in (result.terms | dict(gates)).items()}


def together(trainings: list[Training], fused: Fused) -> tuple[list[list[Any]], int]:
    """What every training told at each step, and how many steps were taken in company."""
    open_lanes = {lane: due_steps(one, made_of.batches(one)) for lane, one in enumerate(trainings)}
    heard: list[list[Any]] = [[] for _ in trainings]
    taken = 0
    while open_lanes:
        due = []
        for lane, steps in tuple(open_lanes.items()):
            item = next(steps, None)
            if isinstance(item, StepResult):
                heard[lane].append(told(item, trainings[lane]))
                item = next(steps, None)
            if item is None:
                del open_lanes[lane]
            else:
                due.append(item)
        fused(due)
        taken += sum(step.found is not None for step in due)
    return heard, taken


@pytest.mark.parametrize("name", SYSTEMS)
def test_lanes_of_one_pass_are_what_each_is_alone(name: str) -> None:
    alone = [[told(step, one) for step in fit(one, made_of.batches(one))] for one in lanes(name)]
    trainings = lanes(name)
    assert len({one.kin for one in trainings}) == 1 and trainings[0].kin
    found, taken = together(trainings, Fused())
    assert taken == sum(len(steps) for steps in alone) >= len(trainings) * STEPS
    for lane, (left, right) in enumerate(zip(alone, found, strict=True)):
        for step, (expected, got) in enumerate(zip(left, right, strict=True)):
            assert got == pytest.approx(expected, rel=WITHIN, abs=WITHIN), (lane, step)


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_fused_is_trained_in_turns(name: str) -> None:
    trainings = lanes(name)
    assert not any(one.kin for one in trainings)
    expected = [made_of.weights_of(one) for one in lanes(name) if made_of_trained(one)]
    for one in trainings:
        one.kin = "tried all the same"
    _, taken = together(trainings, Fused())
    assert taken == 0
    for left, right in zip(expected, trainings, strict=True):
        assert made_of.equal(left, made_of.weights_of(right))


def made_of_trained(one: Training) -> bool:
    """Train it to its end."""
    return len(list(fit(one, made_of.batches(one)))) > 0

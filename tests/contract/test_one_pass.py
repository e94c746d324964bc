"""Trainings of one kin in one pass come to what each comes to alone, for every system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.contract import batches as made_of
from tests.lanes import alone, together
from trainer import catalog, noise
from trainer.averages import Averages
from trainer.config import RunConfig, weights_of
from trainer.kin import kin_of
from trainer.overrides import knobs, with_overrides
from trainer.training import Training
from trainer.world import World
from tuning.fused import Fused

STEPS, WITHIN, BATCH_IMAGES = 20, 1e-9, 4
SYSTEMS = [name for name in catalog.names() if not catalog.load(name).not_in_one_pass]
OTHERS = [name for name in catalog.names() if catalog.load(name).not_in_one_pass]


@pytest.fixture
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
    run = with_overrides(made_of.tiny(name), {"data.global_batch_images": BATCH_IMAGES})
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


@pytest.mark.usefixtures("all_in_float64")
@pytest.mark.parametrize("name", SYSTEMS)
def test_lanes_of_one_pass_are_what_each_is_alone(name: str) -> None:
    expected = [alone(one) for one in lanes(name)]
    trainings = lanes(name)
    assert len({one.kin for one in trainings}) == 1 and trainings[0].kin
    found, taken = together(trainings, Fused())
    assert taken == sum(len(steps) for steps in expected) >= len(trainings) * STEPS
    for lane, (left, right) in enumerate(zip(expected, found, strict=True)):
        for step, (own, got) in enumerate(zip(left, right, strict=True)):
            assert got == pytest.approx(own, rel=WITHIN, abs=WITHIN), (lane, step)


@pytest.mark.parametrize("name", SYSTEMS)
def test_lanes_go_in_bf16_too(name: str) -> None:
    run = with_overrides(made_of.tiny(name), {"engine.precision": "bf16"})
    expected = [alone(made_of.training(run, World.alone())) for _ in range(2)]
    trainings = [made_of.training(run, World.alone()) for _ in range(2)]
    for one in trainings:
        one.kin = name
    found, taken = together(trainings, Fused())
    assert taken == sum(len(steps) for steps in expected)
    for left, right in zip(expected, found, strict=True):
        assert right[0] == pytest.approx(left[0], rel=0.1, abs=0.05)


@pytest.mark.usefixtures("all_in_float64")
@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_fused_is_trained_in_turns(name: str) -> None:
    trainings = lanes(name)
    assert not any(one.kin for one in trainings)
    expected = lanes(name)
    for one in expected:
        alone(one)
    for one in trainings:
        one.kin = "tried all the same"
    _, taken = together(trainings, Fused())
    assert taken == 0
    for left, right in zip(expected, trainings, strict=True):
        assert made_of.equal(made_of.weights_of(left), made_of.weights_of(right))

"""The same loop on a GPU: finite terms, the first step as on the CPU, and on after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contract import batches as made_of
from tests.lanes import alone, together
from trainer import catalog, checkpoint
from trainer.loop import fit
from trainer.overrides import with_overrides
from trainer.training import Training
from trainer.world import World
from tuning.fused import Fused

FUSED = [name for name in catalog.names() if not catalog.load(name).not_in_one_pass]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(name: str, precision: str) -> Training:
    run = with_overrides(made_of.tiny(name), {"engine.precision": precision})
    training = made_of.training(run, World.alone("cuda"))
    networks = [player.module for player in training.players.values()]
    for network in [*networks, *training.system.frozen().values()]:
        network.to("cuda")
    training.averages = type(training.averages)(tuple(training.players.values()))
    return training


def losses(training: Training, device: str) -> list[dict[str, float]]:
    steps = fit(training, (batch.to(device) for batch in made_of.batches(training)))
    return [{key: float(value) for key, value in step.terms.items()} for step in steps]


@pytest.mark.parametrize("name", catalog.names())
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_stage_trains(name: str, precision: str) -> None:
    for step in losses(on_gpu(name, precision), "cuda"):
        assert all(value == value and abs(value) < float("inf") for value in step.values())


@pytest.mark.parametrize("name", catalog.names())
def test_first_step_is_that_of_the_cpu(name: str) -> None:
    gpu = losses(on_gpu(name, "fp32"), "cuda")[0]
    cpu_training = made_of.training(made_of.tiny(name), World.alone())
    cpu = losses(cpu_training, "cpu")[0]
    assert gpu == pytest.approx(cpu, rel=2e-2, abs=1e-4)


@pytest.mark.parametrize("name", catalog.names())
def test_a_run_that_was_stopped_goes_on(name: str, tmp_path: Path) -> None:
    expected = losses(on_gpu(name, "fp32"), "cuda")
    for cut in range(1, len(expected)):
        begun = on_gpu(name, "fp32")
        steps = fit(begun, (batch.to("cuda") for batch in made_of.batches(begun)))
        for _ in range(cut):
            next(steps)
        picture = checkpoint.capture(begun, {})
        assert picture is not None
        resumed = on_gpu(name, "fp32")
        checkpoint.restore(resumed, checkpoint.read(checkpoint.write(tmp_path / str(cut), picture)))
        found = losses(resumed, "cuda")
        assert len(found) == len(expected) - cut
        for ours, theirs in zip(found, expected[cut:], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize(
    "name", [n for n in catalog.names() if not catalog.load(n).not_in_one_pass]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lanes_of_one_pass_begin_as_each_does_alone(name: str, precision: str) -> None:
    expected = [alone(on_gpu(name, precision)) for _ in range(2)]
    lanes = [on_gpu(name, precision) for _ in range(2)]
    for one in lanes:
        one.kin = name
    found, taken = together(lanes, Fused())
    assert taken == sum(len(steps) for steps in expected)
    for left, right in zip(expected, found, strict=True):
        assert right[0] == pytest.approx(left[0], rel=5e-2, abs=1e-3)

"""What several ranks share: statistics, masked means, moments that load on any number of ranks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.contract.batches import distance, gradients
from trainer.engines import DeepSpeedEngine, TorchEngine
from trainer.loop import means
from trainer.nets.norm import BatchNorm2d
from trainer.system import Mean, OptimizerConfig, Player
from trainer.world import World


def _own(world: World, whole: torch.Tensor) -> torch.Tensor:
    size = len(whole) // world.size
    return whole[world.rank * size : (world.rank + 1) * size]


def _normalised(world: World, offset: float) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    whole = torch.randn(8, 3, 4, 4) * 3 + offset
    layer, x = BatchNorm2d(3), _own(world, whole).clone().requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.5, -2.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    layer(x).pow(3).mean().div(world.size).backward()
    gradients = torch.stack([layer.weight.grad, layer.bias.grad])
    world.all_reduce_sum(gradients)
    return x.grad, layer.running_mean, layer.running_var, gradients


@pytest.mark.parametrize("offset", [1.0, 300.0])
def test_batch_norm_sees_the_global_batch(ranks, offset: float) -> None:
    """Output, gradients and running statistics, also far from 0."""
    whole = _normalised(World.alone(), offset)
    halves = ranks.run(_normalised, offset)
    close = {"rtol": 2e-4, "atol": 2e-5} if offset > 1 else {}
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), whole[0], **close)
    for half in halves:
        torch.testing.assert_close(half[1:], whole[1:], **close)


def _masked(world: World) -> torch.Tensor:
    value_B = _own(world, torch.arange(1.0, 9.0))
    mask_B = _own(world, torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 1]))
    found = means(world, {"term": Mean(sum=(value_B * mask_B).sum(), count=mask_B.sum())})
    none = means(world, {"term": Mean(sum=value_B.sum() * 0, count=mask_B.sum() * 0)})
    total = torch.stack([found["term"], none["term"]])
    return world.all_reduce_sum(total) / world.size


def test_masked_means_divide_by_the_count_of_all_ranks(ranks) -> None:
    expected = torch.tensor([(1 + 2 + 3 + 8) / 4, 0.0])
    for got in [_masked(World.alone()), *ranks.run(_masked)]:
        torch.testing.assert_close(got, expected)


def _moments(world: World, kind: str, zero: int | None) -> tuple[Any, Any]:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    inputs = torch.randn(8, 8, 5)
    config = OptimizerConfig(
        name=kind, learning_rate=1e-2, weight_decay=1e-3, lr_scale={"0.*": 0.5}, clip_norm=0.5
    )

    def engine(net: torch.nn.Module) -> TorchEngine | DeepSpeedEngine:
        player = Player(name="net", module=net, optimizer=config)
        if zero is None:
            return TorchEngine(player, "*")
        return DeepSpeedEngine(player, "*", world, zero, 8)

    def steps(net: torch.nn.Module, moving: Any, first: int, last: int) -> None:
        for index in range(first, last):
            moving.backward(net(_own(world, inputs[index])).square().mean())
            moving.step(0.0)

    moving = engine(module)
    steps(module, moving, 0, 4)
    other = copy.deepcopy(module)
    saved = moving.moments()
    steps(module, moving, 4, 8)
    resumed = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    resumed.load_state_dict(other.state_dict())
    again = engine(resumed)
    again.load_moments(saved)
    steps(resumed, again, 4, 8)
    return module.state_dict(), resumed.state_dict()


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_moments_resume_exactly_at_every_zero_stage(ranks, kind: str, zero: int) -> None:
    alone, _ = _moments(World.alone(), kind, None)
    for whole, resumed in ranks.run(_moments, kind, zero):
        for name, value in whole.items():
            assert torch.equal(value, resumed[name])
            torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-6)


class _Later(torch.nn.Module):
    """A sum of layers, of which the second plays from step 2, the third from step 4."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(5, 5) for _ in range(3))

    def forward(self, x_BD: torch.Tensor, step: int) -> torch.Tensor:
        playing = self.layers[: 1 + min(step // 2, 2)]
        return torch.stack([layer(x_BD) for layer in playing]).sum(0)


def _later(
    world: World, kind: str, zero: int | None, begun: Any, first: int, last: int
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Weights and moments after the steps from `first` to `last`, from those that were `begun`."""
    torch.manual_seed(0)
    inputs, net = torch.randn(10, 8, 5), _Later()
    config = OptimizerConfig(
        name=kind, learning_rate=1e-2, weight_decay=1e-2, lr_scale={"*.bias": 0.5}, clip_norm=0.5
    )
    player = Player(name="net", module=net, optimizer=config)
    weights, moments = begun or (net.state_dict(), {})
    net.load_state_dict(weights)
    alone = zero is None
    moving = TorchEngine(player, "*") if alone else DeepSpeedEngine(player, "*", world, zero, 8)
    moving.load_moments(moments)
    for step in range(first, last):
        moving.backward(net(_own(world, inputs[step]), step).square().mean())
        moving.step(0.0)
    saved = moving.moments()
    moving.close()
    return {key: value.detach().clone() for key, value in net.state_dict().items()}, saved


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_steps_of_each_parameter_go_to_two_ranks_and_back(ranks, kind: str, zero: int) -> None:
    """A parameter without a gradient is skipped by torch: its steps and moments are its own."""
    alone = World.alone()
    begun = _later(alone, kind, None, None, 0, 4)
    expected = _later(alone, kind, None, begun, 4, 8)
    halfway = ranks.run(_later, kind, zero, begun, 4, 8)
    for weights, moments in halfway:
        torch.testing.assert_close(weights, expected[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(moments, expected[1], rtol=1e-4, atol=1e-6)
    expected = _later(alone, kind, None, halfway[0], 8, 10)
    for again in ranks.run(_later, kind, zero, halfway[0], 8, 10):
        torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-6)
    if kind != "sgd":
        steps = {float(value) for key, value in halfway[0][1].items() if key.endswith("/step")}
        assert steps == {8.0, 6.0, 4.0}


def test_two_ranks_in_bf16_are_one_within_its_precision(ranks) -> None:
    """First-step gradients, which are not those of fp32."""
    alone = {kind: gradients(World.alone(), "baseline", None, kind) for kind in ("fp32", "bf16")}
    for side_by_side in ranks.run(gradients, "baseline", 1, "bf16"):
        assert distance(alone["bf16"], side_by_side) < 1e-2
        assert distance(alone["fp32"], side_by_side) > 2e-2

"""ConvFLU: its equations, its gates open and shut, its settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trainer.nets.convflu import (
    ConvFLU,
    Crossing,
    Exchange,
    GateConfig,
    exchanges,
    gates_of,
    recorded_openings,
)


def unit(own: int = 4, other: int = 4, **settings) -> ConvFLU:
    torch.manual_seed(0)
    return ConvFLU(own, other, GateConfig(**settings))


def pair(own: int = 4, other: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(2, own, 6, 5, generator=generator)
    return first, torch.randn(2, other, 6, 5, generator=generator)


def test_follows_the_equations():
    flu, (x, y) = unit(), pair()
    both = torch.cat([x, y], dim=1)
    leak = torch.sigmoid(flu.leak.map(both))
    memory = torch.sigmoid(flu.memory.map(both))
    candidate = torch.tanh(flu.own(x) + flu.other(leak * y))
    expected = memory * x + (1 - memory) * candidate
    torch.testing.assert_close(flu(x, y), expected)


@pytest.mark.parametrize("channels", [16, 128])
def test_without_learned_bias_has_the_parameters_of_the_release(channels):
    flu = unit(channels, channels, learned_bias=False)
    assert sum(parameter.numel() for parameter in flu.parameters()) == 6 * channels**2


def test_open_memory_keeps_the_own_features():
    flu, (x, y) = unit(memory_bias=100.0), pair()
    torch.testing.assert_close(flu(x, y), x)


def test_shut_leak_lets_nothing_of_the_other_in_but_by_the_memory():
    flu, (x, y) = unit(leak_bias=-100.0, memory_bias=-100.0), pair()
    torch.testing.assert_close(flu(x, y), torch.tanh(flu.own(x)))


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [("pixel", (2, 4, 6, 5)), ("channel", (2, 4, 1, 1)), ("scalar", (2, 1, 1, 1))],
)
def test_granularity_is_the_openings_shape(granularity, shape):
    flu, (x, y) = unit(granularity=granularity), pair()
    assert flu.leak(flu.leak.map(torch.cat([x, y], dim=1))).shape == shape
    assert flu(x, y).shape == x.shape


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_branches_may_differ_in_width(kernel_size):
    flu, (x, y) = unit(6, 3, kernel_size=kernel_size), pair(6, 3)
    assert flu(x, y).shape == x.shape


def test_low_temperature_is_nearly_binary():
    flu, (x, y) = unit(temperature=0.05), pair()
    warm, _ = unit(temperature=20.0), None
    both = torch.cat([x, y], dim=1)
    assert (flu.leak(flu.leak.map(both)) - 0.5).abs().mean() > 0.4
    assert (warm.leak(warm.leak.map(both)) - 0.5).abs().mean() < 0.02


def test_both_directions_see_the_maps_before_either_moved():
    torch.manual_seed(0)
    exchange, (x, y) = Exchange(1, 4, 4, GateConfig()), pair()
    first, second = exchange(x, y)
    assert exchange.to_recognition is not None and exchange.to_synthesis is not None
    torch.testing.assert_close(first, exchange.to_recognition(x, y))
    torch.testing.assert_close(second, exchange.to_synthesis(y, x))


@pytest.mark.parametrize(
    ("direction", "units"), [("both", 6), ("to_recognition", 3), ("to_synthesis", 3), ("none", 0)]
)
def test_direction_says_which_units_are_built(direction, units):
    built = exchanges([(4, 4)] * 3, GateConfig(direction=direction))
    assert len(gates_of(built)) == 2 * units


def test_a_unit_that_is_off_passes_its_features():
    config = replace(GateConfig(), scale_2=Crossing(to_recognition=False))
    built, (x, y) = exchanges([(4, 4)] * 3, config), pair()
    kept, changed = built["scale_2"](x, y)
    assert kept is x
    assert not torch.equal(changed, y)
    assert "scale_2/to_recognition/leak" not in gates_of(built)
    assert "scale_2/to_synthesis/leak" in gates_of(built)


def test_mean_opening_follows_training_forwards_only():
    flu, (x, y) = unit(leak_bias=3.0), pair()
    flu(x, y)
    seen = flu.leak.mean_opening.clone()
    assert 0.8 < seen < 1.0
    flu.eval()
    flu(10 * x, 10 * y)
    assert torch.equal(flu.leak.mean_opening, seen)


def test_recorded_openings_are_maps_and_end_with_the_block():
    built, (x, y) = exchanges([(4, 4)] * 3, GateConfig()), pair()
    with recorded_openings(built) as openings:
        built["scale_1"](x, y)
    assert openings["scale_1/to_synthesis/memory"].shape == (2, 1, 6, 5)
    found = dict(openings)
    built["scale_2"](x, y)
    assert openings.keys() == found.keys()

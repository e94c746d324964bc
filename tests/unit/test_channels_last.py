"""Networks whose maps lie channels last compute, train and resume as others do."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.contract import batches as made_of
from trainer import checkpoint, layout
from trainer.config import RunConfig
from trainer.loop import fit
from trainer.nets.norm import InstanceNorm2d
from trainer.training import Training
from trainer.world import World

LAST = {"engine.channels_last": True}


def training(run: RunConfig) -> Training:
    return made_of.training(run, World.alone(), steps_per_stage=4)


def losses(made: Training, steps: int | None = None) -> list[dict[str, float]]:
    results = islice(fit(made, made_of.batches(made)), steps)
    return [{key: float(value) for key, value in one.terms.items()} for one in results]


def test_instance_norm_is_torchs_in_either_layout() -> None:
    x = torch.randn(3, 5, 6, 7)
    expected = torch.nn.InstanceNorm2d(5)(x)
    norm = InstanceNorm2d(5)
    torch.testing.assert_close(norm(x), expected)
    last = norm(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, expected)


def test_instance_norms_gradients_are_those_of_the_other_layout() -> None:
    plain = torch.randn(3, 5, 6, 7, requires_grad=True)
    last = plain.detach().to(memory_format=torch.channels_last).requires_grad_()
    dy = torch.randn(3, 5, 6, 7)
    norm = InstanceNorm2d(5)
    made, expected = norm(last), norm(plain)
    assert made.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(made, expected)
    made.backward(dy)
    expected.backward(dy)
    torch.testing.assert_close(last.grad, plain.grad)


def test_the_same_terms_as_in_the_other_layout() -> None:
    """Of the first step: Adam magnifies the last bits from step to step."""
    plain, last = (losses(training(made_of.tiny("fersnet", **given)), 1) for given in ({}, LAST))
    assert plain[0] == pytest.approx(last[0], rel=1e-4)


@pytest.fixture
def heavy_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the small network's kernels are heavy."""
    monkeypatch.setattr(layout, "HEAVY", 1000)


@pytest.mark.usefixtures("heavy_kernels")
def test_heavy_kernels_keep_the_default_order_and_give_the_same_terms() -> None:
    made = training(made_of.tiny("fersnet", **LAST))
    layers = made.players["network"].module.modules()
    weights = [one.weight for one in layers if isinstance(one, (nn.Conv2d, nn.ConvTranspose2d))]
    heavy = [
        value for value in weights if value.numel() >= layout.HEAVY and value[0, 0].numel() > 1
    ]
    assert 0 < len(heavy) < len(weights)
    assert all(value.is_contiguous() for value in heavy)
    light = [value for value in weights if value.numel() < layout.HEAVY]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in light)
    plain = losses(training(made_of.tiny("fersnet")), 1)
    assert plain[0] == pytest.approx(losses(made, 1)[0], rel=1e-4)


@pytest.mark.parametrize("heavy", [layout.HEAVY, 1000])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heavy: int
) -> None:
    monkeypatch.setattr(layout, "HEAVY", heavy)
    run = made_of.tiny("fersnet", **LAST)
    whole = training(run)
    expected = losses(whole)
    first = training(run)
    losses(first, 2)
    picture = checkpoint.capture(first, {})
    assert picture is not None
    path = checkpoint.write(tmp_path / "2", picture)
    second = training(run)
    checkpoint.restore(second, checkpoint.read(path))
    assert losses(second) == expected[2:]
    assert made_of.equal(made_of.weights_of(whole), made_of.weights_of(second))

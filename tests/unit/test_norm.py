from __future__ import annotations

import pytest
import torch

from trainer.nets.norm import BatchNorm1d, BatchNorm2d, set_statistics_updates


def test_equals_torch_on_one_rank() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_reduced_statistics_equal_the_fused_kernel() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4, dtype=torch.float64).requires_grad_()
    ours, theirs = BatchNorm1d(4).double(), torch.nn.BatchNorm1d(4).double()
    mean_C, var_C = x.mean(0), x.var(0, unbiased=False)
    ours._normalise(x, mean_C, var_C).square().sum().backward()
    gradient = x.grad
    x.grad = None
    theirs(x).square().sum().backward()
    torch.testing.assert_close(gradient, x.grad)


def test_opponents_do_not_move_their_statistics() -> None:
    layer = BatchNorm2d(2)
    set_statistics_updates(layer, False)
    before = layer.running_mean.clone()
    layer(torch.randn(4, 2, 3, 3) + 5)
    assert torch.equal(layer.running_mean, before)
    set_statistics_updates(layer, True)
    layer(torch.randn(4, 2, 3, 3) + 5)
    assert not torch.equal(layer.running_mean, before)


def test_wrong_dimensions_are_named() -> None:
    with pytest.raises(ValueError, match="BatchNorm2d takes"):
        BatchNorm2d(2)(torch.zeros(3, 2))

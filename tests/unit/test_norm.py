from __future__ import annotations

import pytest
import torch

from trainer.nets.norm import BatchNorm2d, set_statistics_updates


def test_equals_torch_on_one_rank() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_opponents_do_not_move_their_statistics() -> None:
    layer = BatchNorm2d(2)
    set_statistics_updates([layer], False)
    before = layer.running_mean.clone()
    layer(torch.randn(4, 2, 3, 3) + 5)
    assert torch.equal(layer.running_mean, before)
    set_statistics_updates([layer], True)
    layer(torch.randn(4, 2, 3, 3) + 5)
    assert not torch.equal(layer.running_mean, before)


def test_wrong_dimensions_are_named() -> None:
    with pytest.raises(ValueError, match="BatchNorm2d takes"):
        BatchNorm2d(2)(torch.zeros(3, 2))

"""Cross-entropy with weighed classes, and dropout keyed by the samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from data_service.schema import DatasetInfo, Expression
from trainer.losses.classification import class_weights, classification
from trainer.nets.dropout import dropout
from trainer.noise import keyed_noise

INFO = DatasetInfo(
    classes=(Expression.ANGER, Expression.HAPPINESS, Expression.NEUTRAL),
    image_size=8,
    channels=1,
    subjects=2,
    class_images=(10, 40, 0),
)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights_keep_the_mean_loss_of_a_face(power: float) -> None:
    weights = class_weights(INFO, power)
    assert weights[0] / weights[1] == pytest.approx(4.0**power)
    assert float((weights * torch.tensor(INFO.class_images)).sum()) / 50 == pytest.approx(1.0)


def test_classes_that_nobody_counted_cannot_be_weighed() -> None:
    unknown = replace(INFO, class_images=())
    assert torch.equal(class_weights(unknown, 0.0), torch.ones(3))
    with pytest.raises(ValueError, match="nobody counted"):
        class_weights(unknown, 0.5)


def test_weighed_cross_entropy_is_torch_s_sum() -> None:
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.arange(5)
    weights = class_weights(INFO, 0.5)
    found = classification(logits, labels % 2, class_weight_K=weights)
    expected = functional.cross_entropy(logits, labels % 2, weight=weights, reduction="sum")
    assert float(found.sum) == pytest.approx(float(expected))
    assert int(found.count) == 5


def test_dropout_is_a_function_of_the_sample_and_keeps_the_mean() -> None:
    x, key = torch.ones(4, 2000), torch.arange(4)

    def noise(name: str, shape: tuple[int, ...], *, uniform: bool) -> torch.Tensor:
        return keyed_noise(key, name, shape, uniform=uniform)

    hidden = dropout(x, 0.3, "first", noise)
    assert torch.equal(hidden, dropout(x, 0.3, "first", noise))
    assert not torch.equal(hidden, dropout(x, 0.3, "second", noise))
    assert float((hidden == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(hidden.mean()) == pytest.approx(1.0, abs=0.03)
    assert dropout(x, 0.3, "first", None) is x

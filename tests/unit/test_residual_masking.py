"""Residual masking: what a mask does, the published depths, gates that are off, misfits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from data_service.schema import DatasetInfo, Expression
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.systems.residual_masking.nets import MaskingBlock
from trainer.systems.residual_masking.system import ResidualMasking, build

INFO = DatasetInfo(classes=tuple(Expression)[:7], image_size=32, channels=1, subjects=4)


def system(recipe: str, info: DatasetInfo = INFO, **values: Any) -> ResidualMasking:
    config = with_overrides(catalog.recipe(f"residual_masking.{recipe}"), values).system
    return build(config, info)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_mask_adds_a_share_of_the_maps(
    depth: int, activation: Literal["softmax", "sigmoid"]
) -> None:
    torch.manual_seed(0)
    block, x = MaskingBlock(4, depth, activation), torch.randn(2, 4, 8, 8)
    out = block(x)
    assert block.mask_BCHW is not None and out.shape == x.shape
    assert torch.allclose(out, x + x * block.mask_BCHW)
    assert float(block.mask_BCHW.min()) >= 0 and float(block.mask_BCHW.max()) <= 1
    if activation == "softmax":
        assert torch.allclose(block.mask_BCHW.sum(1), torch.ones(2, 8, 8))


def test_published_shapes() -> None:
    run = catalog.recipe("residual_masking.paper")
    network = replace(run.system.network, width=0.02, shape="resnet18")
    made = build(replace(run.system, network=network), replace(INFO, image_size=224))
    made.network.eval()
    with torch.inference_mode():
        made.network(torch.zeros(1, 1, 224, 224))
    shapes = [tuple(mask.shape[1:]) for mask in made.network.seen_masks().values()]
    assert shapes == [(1, 56, 56), (1, 28, 28), (1, 14, 14), (1, 7, 7)]
    depths = [len(block.encoder) for block in made.network.masks.values()]  # type: ignore[arg-type]
    assert depths == [4, 3, 2, 1]


def test_gates_that_are_off_leave_the_backbone() -> None:
    made = system("small_unmasked", replace(INFO, class_images=(3,) * 7))
    made.network(torch.zeros(2, 1, 32, 32))
    assert not made.gates() and not made.network.masks
    some = system("tiny", **{"system.gates.stage_2": False})
    some.network(torch.zeros(2, 1, 32, 32))
    assert list(some.gates()) == ["stage_1", "stage_3", "stage_4"]


def test_maps_that_cannot_be_halved_are_told() -> None:
    with pytest.raises(ValueError, match="stage 1 have a side of 12, which a mask of depth 4"):
        system(
            "tiny",
            replace(INFO, image_size=48),
            **{"system.network.stem": "published", "system.network.mask_depths": "4,1,1,1"},
        )

"""The attentive hybrid architecture: where its regions stand, attentions that are off."""

from __future__ import annotations

import pytest
import torch

from tests.contract import batches as made_of
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.system import DataNeeds
from trainer.systems.attentive_hybrid.nets import TEMPLATE_N2, PlaceAttention, region_centres


def test_regions_stand_at_landmarks_where_these_are_known() -> None:
    batch = made_of.make(DataNeeds(fields=("landmarks",)), made_of.INFO, 2, 0)
    assert batch.landmarks_BL3 is not None
    landmarks = batch.landmarks_BL3.clone()
    landmarks[1, 0] = torch.nan
    landmarks[1, 40] = torch.nan
    centres = region_centres(landmarks, batch.faces_BCHW)
    mouth = (landmarks[0, 48:60, :2].mean(0) + 0.5) / made_of.INFO.image_size
    torch.testing.assert_close(centres[0, 3], mouth)
    torch.testing.assert_close(centres[1], torch.tensor(TEMPLATE_N2))
    template = region_centres(None, batch.faces_BCHW)
    torch.testing.assert_close(template[0], torch.tensor(TEMPLATE_N2))
    with pytest.raises(ValueError, match="21 landmarks were given"):
        region_centres(torch.zeros(2, 21, 3), batch.faces_BCHW)


def test_attention_is_an_average_when_off() -> None:
    maps = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    pooled, weights = PlaceAttention(5, on=False)(maps)
    torch.testing.assert_close(pooled, maps.mean((2, 3)))
    own, weights = PlaceAttention(5, on=True)(maps)
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
    assert not torch.allclose(own, pooled)


def test_landmarks_are_asked_for_only_where_regions_follow_them() -> None:
    run = catalog.recipe("attentive_hybrid.tiny")
    spec = catalog.load("attentive_hybrid")
    assert not spec.data(run.system).fields
    follow = with_overrides(run, {"system.network.regions": "landmarks"})
    assert spec.data(follow.system).fields == ("landmarks",)
    system = spec.build(follow.system, made_of.INFO)
    batch = made_of.make(DataNeeds(fields=("landmarks",)), made_of.INFO, 2, 0)
    logits = system.predict(batch).logits_BK
    assert logits is not None and logits.shape == (2, 3)

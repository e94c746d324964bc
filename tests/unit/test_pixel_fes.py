"""The closed form of pixel-based synthesis against a ridge of scikit-learn, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from data_service.schema import DatasetInfo, Expression, FaceBatch
from tests.contract import batches as made_of
from trainer import catalog
from trainer.loop import fit
from trainer.overrides import with_overrides
from trainer.system import Progress, StepContext, System
from trainer.systems.pixel_fes.nets import unchanged, windows
from trainer.world import World

SIDE = 6
INFO = replace(made_of.INFO, image_size=SIDE)


def built(info: DatasetInfo = INFO, **settings: object) -> System:
    run = with_overrides(
        catalog.recipe("pixel_fes.tiny"),
        {f"system.{key}": value for key, value in settings.items()},
    )
    return catalog.load("pixel_fes").build(run.system, info)


def solved(system: System, count: int = 24) -> tuple[FaceBatch, torch.Tensor]:
    """The pairs of two steps, and the maps that they give."""
    needs = catalog.load("pixel_fes").data(catalog.recipe("pixel_fes.tiny").system)
    batch = made_of.make(needs, INFO, count, 0)
    (stage,) = system.stages()
    assert stage.observe and stage.on_exit
    halves = (batch.slice(0, count // 2), batch.slice(count // 2, count))
    sums = [
        stage.observe(StepContext(batch=half, progress=Progress(), wanted=frozenset()))
        for half in halves
    ]
    stage.on_exit({name: sums[0][name] + sums[1][name] for name in sums[0]})
    return batch, system.state_dict()["weights"]


@pytest.mark.parametrize("receptive_field", [1, 3])
def test_maps_are_a_ridge_for_every_pixel(receptive_field: int) -> None:
    system = built(receptive_field=receptive_field, ridge=0.7)
    batch, weights_KCHWD = solved(system)
    inputs_BCDHW = windows((batch.faces_BCHW + 1) / 2, receptive_field).numpy()
    targets_BCHW = ((batch.partners["same_subject"] + 1) / 2).numpy()
    class_B = batch.partner_expression["same_subject"].numpy()
    fits_B = batch.partner_valid["same_subject"].numpy()
    for index, channel, row, column in [(0, 0, 0, 0), (1, 2, 3, 4), (2, 1, SIDE - 1, 2)]:
        chosen_B = fits_B & (class_B == index)
        peer = Ridge(alpha=0.7, fit_intercept=False)
        peer.fit(
            inputs_BCDHW[chosen_B, channel, :, row, column],
            targets_BCHW[chosen_B, channel, row, column],
        )
        own_D = weights_KCHWD[index, channel, row, column].numpy()
        np.testing.assert_allclose(own_D, peer.coef_, atol=1e-4)


def test_neutral_sources_alone_are_summed() -> None:
    system = built(source="neutral")
    batch, weights_KCHWD = solved(system)
    neutral = INFO.classes.index(Expression.NEUTRAL)
    reached = set(
        batch.partner_expression["same_subject"][
            (batch.expression_B == neutral) & batch.partner_valid["same_subject"]
        ].tolist()
    )
    same = unchanged(len(INFO.classes), INFO.channels, SIDE, 1)
    for index in range(len(INFO.classes)):
        assert torch.equal(weights_KCHWD[index], same[index]) == (index not in reached)
    with pytest.raises(ValueError, match="needs neutral faces"):
        built(replace(INFO, classes=(Expression.ANGER, Expression.FEAR)), source="neutral")


def test_faces_without_pairs_are_refused_before_and_after_they_were_seen() -> None:
    with pytest.raises(ValueError, match="no training face has a known subject"):
        built(replace(INFO, subjects=0))
    system = built()
    needs = catalog.load("pixel_fes").data(catalog.recipe("pixel_fes.tiny").system)
    batch = made_of.make(needs, INFO, 8, 0)
    alone = {rule: torch.zeros_like(valid) for rule, valid in batch.partner_valid.items()}
    (stage,) = system.stages()
    assert stage.observe and stage.on_exit
    context = StepContext(
        batch=replace(batch, partner_valid=alone), progress=Progress(), wanted=frozenset()
    )
    sums = stage.observe(context)
    with pytest.raises(ValueError, match="of no face among 8192 was there another expression"):
        stage.on_exit(sums)


def test_a_face_stays_until_pairs_were_seen() -> None:
    system = built(receptive_field=3)
    batch = made_of.make(catalog.load("pixel_fes").data(None), INFO, 4, 0)
    made_BCHW = system.predict(batch).images_BCHW
    torch.testing.assert_close(made_BCHW, batch.faces_BCHW)


def test_maps_of_another_shape_are_refused() -> None:
    state = built(receptive_field=3).state_dict()
    with pytest.raises(ValueError, match="receptive field differ"):
        built().load_state_dict(state)


def test_the_loop_solves_at_the_end_of_the_stage_only() -> None:
    made = made_of.training(made_of.tiny("pixel_fes"), World.alone(), steps_per_stage=3)
    before = made_of.weights_of(made)
    kept = []
    for _ in fit(made, made_of.batches(made)):
        kept.append(made_of.equal(before, made_of.weights_of(made)))
    assert kept == [True, True, False]

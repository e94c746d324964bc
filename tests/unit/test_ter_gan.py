"""TER-GAN: whose face comes out, whose expression, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.contract import batches as made_of
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.system import System


def built(info=made_of.INFO, **settings: object) -> System:
    run = with_overrides(catalog.recipe("ter_gan.tiny"), settings)
    return catalog.load("ter_gan").build(run.system, info)


def test_transfer_takes_the_code_of_the_reference() -> None:
    system = built()
    generator = system.players()[0].module
    batch = made_of.make(catalog.load("ter_gan").data(None), made_of.INFO, 3, 0)
    reference = batch.partners["other_subject"]
    moved = replace(batch, partners={"reference": reference})
    with torch.no_grad():
        made = system.predict(moved).images_BCHW
        code, _ = generator.expression(reference)  # type: ignore[operator]
        own = generator.transfer(batch.faces_BCHW, code).clamp(-1, 1)  # type: ignore[operator]
        edited = system.predict(batch).images_BCHW
    assert made is not None and edited is not None
    assert torch.equal(made, own)
    assert not torch.equal(made, edited)


def test_sizes_and_subjects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 50; 3 halvings"):
        built(replace(made_of.INFO, image_size=50))
    nobody = replace(made_of.INFO, subjects=0)
    with pytest.raises(ValueError, match="0 known subjects"):
        built(nobody)
    assert built(nobody, **{"system.weights.identity_class": 0.0}).players()

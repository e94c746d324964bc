"""PaW: where attributes are looked for, how part and whole are weighed, what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data_service.corpora import drawn
from tests.contract import batches as made_of
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.systems.paw.losses import attribute_error
from trainer.systems.paw.nets import AttributeRelation, RegionSwitch
from trainer.systems.paw.system import Paw


def built(info=made_of.INFO, recipe: str = "tiny", **settings: object) -> Paw:
    run = with_overrides(catalog.recipe(f"paw.{recipe}"), settings)
    return catalog.load("paw").build(run.system, info)  # type: ignore[return-value]


def test_unknown_attributes_do_not_count_and_above_zero_is_there() -> None:
    logits = torch.tensor([[9.0, -9.0, 0.0], [9.0, 9.0, -9.0]])
    attributes = torch.tensor([[1.0, -1.0, torch.nan], [0.4, 0.7, 0.0]])
    error = attribute_error(logits, attributes)
    assert error.count == 5 and error.sum < 0.01


def test_the_peak_of_the_response_is_the_place() -> None:
    system = built()
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, 1, 6] = 5.0
    maps[0, 1, 4, 2] = -5.0
    system.localisers.forward = lambda images: [maps, maps]  # type: ignore[method-assign]
    places = system.localisers.places(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(places[0], torch.tensor([[6.5 / 8, 1.5 / 8], [2.5 / 8, 4.5 / 8]]))


def test_switch_and_relation_start_as_the_mean_of_both() -> None:
    config = catalog.recipe("paw.tiny").system.gates
    part, whole = torch.tensor([[2.0, -2.0]]), torch.tensor([[0.0, 4.0]])
    switch = RegionSwitch(config, 2)
    mixed = AttributeRelation(2)(switch(part, whole))
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 1.0]]))
    hard = RegionSwitch(replace(config, hard=True, start=1.0), 2).eval()
    torch.testing.assert_close(hard(part, whole), part)


def test_halves_alone_leave_the_other_out() -> None:
    whole, part = built(recipe="tiny_whole"), built(recipe="tiny_part")
    assert whole.cascade.net_parts is None and whole.cascade.join_switch is None
    assert part.cascade.net_whole is None and part.cascade.hint is None
    batch = made_of.make(catalog.load("paw").data(whole.config), made_of.INFO, 3, 0)
    batch = replace(batch, faces_BCHW=torch.zeros(3, 3, 64, 64))
    for system in (whole, part):
        for player in system.players():
            player.module.eval()
        logits = system.predict(batch).attributes_BA
        assert logits is not None and logits.shape == (3, 2)


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="no attribute to learn"):
        built(replace(made_of.INFO, attributes=()))
    with pytest.raises(ValueError, match="are both 0"):
        built(**{"system.weights.part": 0.0, "system.weights.whole": 0.0})


def test_scenes_hold_the_face_where_the_landmarks_say() -> None:
    options = {"subjects": 3, "faces_per_subject": 8, "size": 64}
    aligned, scenes = drawn.scan(None, **options), drawn.scan(None, **options, scenes=True)
    assert scenes.aligned and not aligned.aligned
    pictures, again = drawn.images(scenes.faces), drawn.images(scenes.faces[9:10])
    assert (pictures[9] == again[0]).all()
    widths = []
    for face, plain in zip(scenes.faces, aligned.faces, strict=True):
        assert face.landmarks_L3 is not None and plain.landmarks_L3 is not None
        assert face.attributes == plain.attributes
        span, own = (points.landmarks_L3[[36, 45], :2] for points in (face, plain))
        widths.append(float(((span[0] - span[1]) ** 2).sum() / ((own[0] - own[1]) ** 2).sum()))
        middle = face.landmarks_L3[:, :2].mean(0)
        assert (middle > 0).all() and (middle < 64).all()
    assert min(widths) > 0.4**2 and max(widths) < 0.81**2 and max(widths) / min(widths) > 1.3
    with pytest.raises(ValueError, match="must share"):
        drawn.images([scenes.faces[0], aligned.faces[0]])

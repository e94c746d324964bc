"""FN2EN: the published size, the stages of its variants, the distance, misfits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data_service.schema import DatasetInfo, Expression
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.systems.fn2en.losses import response_distance
from trainer.systems.fn2en.system import Fn2en, build

INFO = DatasetInfo(classes=tuple(Expression), image_size=48, channels=3, subjects=4)
RANDOM = {"system.identity_network": "random", "system.identity_width": 0.125}


def system(recipe: str, **values: object) -> Fn2en:
    return build(with_overrides(catalog.recipe(f"fn2en.{recipe}"), RANDOM | values).system, INFO)


def test_published_size() -> None:
    """The survey of Li and Deng: depth 8 and 11 M; the face network is twelve times larger."""
    config = catalog.recipe("fn2en.paper_scratch").system
    with torch.device("meta"):
        learner = build(config, replace(INFO, image_size=224)).learner
    assert sum(p.numel() for p in learner.parameters()) == 10_599_752
    weighted = (torch.nn.Conv2d, torch.nn.Linear)
    assert sum(isinstance(layer, weighted) for layer in learner.modules()) == 8


def test_only_the_paper_s_method_has_a_teacher() -> None:
    assert [stage.name for stage in system("tiny").stages()] == ["regularisation", "refinement"]
    assert list(system("tiny").frozen()) == ["face"]
    for recipe in ("tiny_scratch", "tiny_finetuned"):
        made = system(recipe)
        assert [stage.name for stage in made.stages()] == ["refinement"]
        assert not made.frozen()
    scratch = catalog.recipe("fn2en.tiny_scratch").system
    assert not scratch.identity_network
    build(scratch, INFO)


def test_a_fine_tuned_face_network_starts_as_the_teacher() -> None:
    teacher, learner = system("tiny").face, system("tiny_finetuned")
    assert teacher is not None
    network, side = learner.face_network()
    assert side == teacher.image_size
    same = zip(network.parameters(), teacher.network.parameters(), strict=True)
    assert all(torch.equal(own, given) for own, given in same)
    with pytest.raises(ValueError, match="no face network"):
        system("tiny").face_network()


@pytest.mark.parametrize("power", [1, 2])
def test_distance_is_zero_where_the_teacher_is_met(power: int) -> None:
    fine = torch.arange(32.0).view(1, 2, 4, 4)
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    assert float(response_distance(coarse, fine, power).sum) == 0
    assert float(response_distance(coarse + 3, fine, power).sum) == pytest.approx(3**power)


def test_misfits_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="needs more halvings"):
        system("tiny", **{"system.network.channels": "8,8"})
    with pytest.raises(ValueError, match="regularisation_images"):
        system("tiny", **{"system.learner": "face"})
    with pytest.raises(ValueError, match="mien train identity"):
        system("tiny", **{"system.identity_network": ""})

"""Multi-level critic: levels, conditions, pose, the losses of the slides, misfits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from data_service.schema import DatasetInfo, Expression, FaceBatch
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.systems.multilevel_critic import losses
from trainer.systems.multilevel_critic.losses import CRITIC_TERMS, GENERATOR_TERMS
from trainer.systems.multilevel_critic.nets import VariationCritic, shrunk
from trainer.systems.multilevel_critic.system import MultilevelCritic, build, data_needs

INFO = DatasetInfo(classes=tuple(Expression), image_size=48, channels=3, subjects=4)
RULE, ANYTIME = "same_subject", "same_subject_anytime"


def system(recipe: str, info: DatasetInfo = INFO, **values: Any) -> MultilevelCritic:
    config = with_overrides(catalog.recipe(f"multilevel_critic.{recipe}"), values).system
    torch.manual_seed(0)
    return build(config, info)


def batch(size: int = 4, **changes: Any) -> FaceBatch:
    faces = torch.rand(2, size, 3, 48, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    index = torch.arange(size)
    made = FaceBatch(
        faces_BCHW=faces[0],
        expression_B=index,
        target_expression_B=index + 1,
        subject_B=index,
        row_B=index,
        key_B=index,
        synthetic_B=torch.zeros(size, dtype=torch.bool),
        partners={RULE: faces[1]},
        partner_valid={RULE: index > 0},
    )
    return replace(made, **changes)


def of_any_sitting(given: FaceBatch) -> FaceBatch:
    """The batch with the same partners under the rule that ignores sittings."""
    partners, valid = {ANYTIME: given.partners[RULE]}, {ANYTIME: given.partner_valid[RULE]}
    return replace(given, partners=partners, partner_valid=valid)


@pytest.mark.parametrize(
    ("recipe", "sides"),
    [("tiny", [12, 24, 48]), ("tiny_coarse", [12, 48]), ("tiny_fine", [24, 48])],
)
def test_decoder_draws_the_levels_that_critics_watch(recipe: str, sides: list[int]) -> None:
    made = system(recipe)
    images = made._made(batch()).images
    assert [image.shape[-1] for image in images.values()] == sides == list(images)
    assert list(made.critics.photo) == list(made.critics.variation) == list(map(str, sides[:-1]))


def test_paper_has_128_px_and_critics_at_32_and_64() -> None:
    run = catalog.recipe("multilevel_critic.paper")
    with torch.device("meta"):
        made = build(run.system, replace(INFO, image_size=run.data.image_size))
    assert list(made.generator.heads) == ["32", "64", "128"]
    assert catalog.recipe("multilevel_critic.paper_64").system.levels == (64,)


def test_terms_are_those_of_the_slides_at_undecided_critics() -> None:
    """Where every critic says 0, each of its logarithms is log 2."""
    made = system("tiny")
    for parameter in made.critics.parameters():
        torch.nn.init.zeros_(parameter)
    faces = made._made(batch())
    found = losses.critic_terms(made.critics, faces, frozenset(CRITIC_TERMS))
    found |= losses.generator_terms(made.critics, faces, frozenset(GENERATOR_TERMS))
    log_2 = float(torch.log(torch.tensor(2.0)))
    times = {"critic": 2, "critic_photo": 4, "critic_variation": 4, "adversarial": 1, "photo": 2}
    for name, number in (times | {"variation": 2}).items():
        value = float(found[name].sum.detach() / found[name].count)
        assert value == pytest.approx(number * log_2, rel=1e-5), name
    assert int(found["variation"].count) == int(found["pixel"].count) == 3
    assert int(found["photo"].count) == 4


def test_variation_critic_judges_the_change_alone() -> None:
    torch.manual_seed(0)
    critic = VariationCritic(3, 2, (8, 8))
    face, condition = torch.rand(2, 3, 16, 16), torch.zeros(2, 2)
    same = critic(face, face, condition)
    assert torch.allclose(same, critic(face.flip(0), face.flip(0), condition))
    assert not torch.allclose(same, critic(face.flip(0), face, condition))


def test_shrunk_faces_are_means_of_blocks() -> None:
    face = torch.rand(1, 3, 48, 48)
    assert shrunk(face, 48) is face
    assert torch.allclose(shrunk(face, 12)[..., 0, 0], face[..., :4, :4].mean((2, 3)))


def test_yaw_is_a_condition_that_is_told_known_or_upright() -> None:
    info = replace(INFO, attributes=("yaw",))
    made = system("tiny_pose", info)
    needs = data_needs(made.config)
    assert (needs.fields, needs.attributes) == (("attributes",), ("yaw",))
    assert needs.partners == (ANYTIME,), "a sitting has one pose: within it no head turns"
    assert data_needs(system("tiny").config).partners == (RULE,)
    unknown, turned = torch.full((4, 1), torch.nan), torch.tensor([[9.0], [0], [torch.nan], [45]])
    faces = made._made(of_any_sitting(batch(partner_attributes={ANYTIME: turned})))
    assert faces.condition_BK[:, -1].tolist() == pytest.approx([0.2, 0, 0, 1])
    assert faces.paired_B.tolist() == [False, True, False, True]
    upright = made.predict(batch()).images_BCHW
    images = made.predict(batch(attributes_BA=unknown)).images_BCHW
    assert upright is not None and images is not None and torch.equal(upright, images)
    told = made.predict(batch(attributes_BA=unknown, target_attributes_BA=turned)).images_BCHW
    assert told is not None
    assert functional.l1_loss(told[1], upright[1]) == 0 and not torch.equal(told[3], upright[3])


def test_misfits_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"has 20, 32; valid at 48 px: 24, 12"):
        system("tiny", **{"system.levels": "20,32"})
    with pytest.raises(ValueError, match=r"must be 0: system\.weights\.photo"):
        system("tiny", **{"system.levels": ""})
    with pytest.raises(ValueError, match="50 px cannot be halved 3 times"):
        system("tiny", replace(INFO, image_size=50))
    system("tiny_final")

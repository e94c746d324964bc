"""ExprGAN: the controller, the published sizes, the losses, editing and transfer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from data_service.schema import DatasetInfo, Expression, FaceBatch
from trainer import catalog
from trainer.config import wanted, weights_of
from trainer.nets.identity_source import build_identity
from trainer.noise import keyed_noise
from trainer.overrides import with_overrides
from trainer.schedules import value_at
from trainer.system import Progress, StepContext, System
from trainer.systems.exprgan import losses, views
from trainer.systems.exprgan.config import NetworkConfig
from trainer.systems.exprgan.nets import CodeConv, Critic, Generator, LatentCritic, expression_code

SIX = (
    Expression.ANGER,
    Expression.DISGUST,
    Expression.FEAR,
    Expression.HAPPINESS,
    Expression.SADNESS,
    Expression.SURPRISE,
)
OULU = DatasetInfo(classes=SIX, image_size=128, channels=3, subjects=72)
FEW = DatasetInfo(
    classes=(Expression.ANGER, Expression.HAPPINESS, Expression.NEUTRAL),
    image_size=48,
    channels=3,
    subjects=5,
)


def test_controller_gives_the_wanted_class_plus_and_all_others_minus() -> None:
    magnitude = torch.tensor([[0.2, 0.7]])
    code = expression_code(torch.tensor([1]), magnitude, 3).view(3, 2)
    assert torch.equal(code, torch.tensor([[-0.2, -0.7], [0.2, 0.7], [-0.2, -0.7]]))
    zero = expression_code(torch.tensor([1, 0]), magnitude.expand(2, 2), 3, zero_class=1)
    assert torch.equal(zero[0], torch.zeros(6))
    assert torch.equal(zero[1].view(3, 2)[0], magnitude[0])


def test_code_joins_a_convolution_as_constant_maps() -> None:
    torch.manual_seed(0)
    layer = CodeConv(4, 5, 6, bias=True)
    x, code = torch.randn(2, 4, 7, 9), torch.randn(2, 5)
    maps = code[:, :, None, None].expand(-1, -1, 7, 9)
    assert torch.allclose(layer(x, code), layer.conv(torch.cat([x, maps], 1)), atol=1e-5)


def test_published_sizes() -> None:
    """Section 4 of the released code: K = 6, d = 5, 50 numbers of identity, 128 px."""
    config = catalog.recipe("exprgan.paper").system.network
    with torch.device("meta"):
        generator = Generator(config, OULU, 30)
        critic = Critic(config, OULU, 5, channels=3, reads=False)
        latent_critic = LatentCritic(config)
    encoder = [3, 64, 128, 256, 512, 1024]
    convs = sum(a * b * 25 + b for a, b in pairwise(encoder))
    assert _count(generator.encoder) == convs + 16384 * 50 + 50
    decoder = [1024, 512, 256, 128, 64, 32, 16, 3]
    convs = sum((a + 30) * b * 9 for a, b in pairwise(decoder))
    assert _count(generator.decoder) == convs + (50 + 240) * 16384 + 16384
    assert critic.reading.dense.in_features == 8576
    assert critic.judging.score.in_features == 1030
    assert [conv.in_channels for conv in critic.reading.convs] == [9, 22, 38, 70]
    assert [m.out_features for m in latent_critic.layers if hasattr(m, "out_features")] == [
        64,
        32,
        16,
        1,
    ]


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_stages_and_weights() -> None:
    run = catalog.recipe("exprgan.paper")
    assert weights_of(run)["identity"] == weights_of(run)["expression_code"] == 1.0
    assert weights_of(run)["adversarial_image"] == weights_of(run)["adversarial_latent"] == 0.01
    assert weights_of(run)["tv"] == 0.001
    for index, name in enumerate(
        ("identity", "expression_code", "adversarial_image", "adversarial_latent", "tv"), start=1
    ):
        changed = with_overrides(run, {f"lambda_{index}": 0.25})
        assert weights_of(changed)[name] == 0.25
    narrow = with_overrides(
        run,
        {
            "system.identity_network": "random",
            "system.identity_width": 0.02,
            "system.network.encoder_channels": "4,4,4,4,4",
            "system.network.decoder_channels": "4,4,4,4,4,4",
        },
    )
    stages = catalog.load("exprgan").build(narrow.system, OULU).stages()
    assert [stage.name for stage in stages] == ["controller", "reconstruction", "refinement"]
    assert stages[0].trains["generator"] == "decoder.*"
    assert stages[0].weights["adversarial_image"] == 1.0
    assert stages[1].weights == {"adversarial_image": 0, "adversarial_latent": 0, "tv": 0}
    assert all(len(stage.groups()) == 1 for stage in stages)


def test_nothing_beyond_the_paper_is_on_in_the_paper_recipe() -> None:
    run = catalog.recipe("exprgan.paper")
    ours = {name for name, value in weights_of(run).items() if value == 0}
    assert ours == {
        "edit_class",
        "pair",
        "pair_smooth",
        "critic_class",
        "critic_mismatch",
    }
    assert not run.system.edit_faces and run.system.view == views.ViewConfig()
    network = run.system.network
    assert network.output == "image"
    assert not (network.skips or network.place_code or network.critic_pooling)
    needs = catalog.load("exprgan").data(run.system)
    assert needs.target == "own" and needs.partner == "none"


def test_paper_weighs_the_identity_network_as_the_release_does() -> None:
    """Which divides the mean over each map by the map's H x W once more."""
    network = build_identity("vggface", image_size=224, width=0.02)
    with torch.no_grad():
        maps = network.features(torch.zeros(1, 3, 224, 224))  # type: ignore[operator]
    betas = catalog.recipe("exprgan.paper").system.identity_betas
    assert betas == pytest.approx([1 / (one.shape[2] * one.shape[3]) for one in maps])


def _system(**overrides: object) -> System:
    run = catalog.recipe("exprgan.tiny")
    run = with_overrides(run, {"system.identity_network": "random", **overrides})
    torch.manual_seed(0)
    return catalog.load("exprgan").build(run.system, FEW)


def _smooth(key_B: torch.Tensor, label: str) -> torch.Tensor:
    coarse = keyed_noise(key_B, label, (len(key_B), 3, 6, 6), uniform=True)
    return torch.nn.functional.interpolate(coarse, (48, 48), mode="bilinear")


def _batch(count: int = 4) -> FaceBatch:
    key = torch.arange(count)
    return FaceBatch(
        faces_BCHW=_smooth(key, "face"),
        expression_B=key % 3,
        target_expression_B=(key + 1) % 3,
        subject_B=key,
        row_B=key,
        key_B=key,
        synthetic_B=torch.zeros(count, dtype=torch.bool),
        partners={
            rule: _smooth(key, "donor") for rule in ("other_class", "same_subject", "reference")
        },
        partner_expression={"reference": torch.full((count,), 1)},
        partner_valid={"same_subject": key != 3},
        partner_intensity={
            "same_subject": torch.tensor([0.25, 0.5, float("nan"), 0.75]).repeat(2)[:count]
        },
    )


def test_editing_goes_by_intensity_and_transfer_by_the_reference() -> None:
    system = _system()
    for player in system.players():
        player.module.eval()
    batch = replace(_batch(), partners={})
    with torch.no_grad():
        full = system.predict(batch).images_BCHW
        told = system.predict(replace(batch, target_intensity_B=torch.ones(4))).images_BCHW
        half = system.predict(replace(batch, target_intensity_B=torch.full((4,), 0.5))).images_BCHW
        transferred = system.predict(_batch()).images_BCHW
        other = _batch()
        other = replace(other, partners={"reference": other.partners["reference"].flip(0)})
        transferred_other = system.predict(other).images_BCHW
    assert torch.equal(full, told)
    assert not torch.equal(full, half)
    assert not torch.equal(transferred, transferred_other)
    assert full.shape == batch.faces_BCHW.shape
    assert full.abs().max() <= 1


def test_pairs_need_edits() -> None:
    with pytest.raises(ValueError, match=r"system.weights.pair\w* needs system.edit_faces"):
        _system(**{"system.edit_faces": False})


def test_critic_cannot_read_a_class_that_it_is_given() -> None:
    with pytest.raises(ValueError, match="critic_condition project"):
        _system(
            **{
                "system.network.critic_condition": "concatenate",
                "system.weights.critic_class": 1.0,
            }
        )


def test_sides_that_do_not_halve_are_refused() -> None:
    run = with_overrides(catalog.recipe("exprgan.tiny"), {"system.identity_network": "random"})
    with pytest.raises(ValueError, match=r"image_size is 50; .* multiple of"):
        catalog.load("exprgan").build(run.system, replace(FEW, image_size=50))


def test_no_identity_network_says_how_to_get_one() -> None:
    run = catalog.recipe("exprgan.paper")
    with pytest.raises(ValueError, match="mien train identity"):
        catalog.load("exprgan").build(run.system, OULU)


def test_a_residual_starts_near_the_source() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        encoder_channels=(4, 8, 8), decoder_channels=(8, 8, 8, 8), output="residual", skips=True
    )
    generator, faces = Generator(config, FEW, 3), _batch().faces_BCHW
    made = generator(faces, torch.ones(4, 3))
    assert made.shape == faces.shape
    assert (made - faces).abs().mean() < 0.5 * faces.abs().mean()


def test_a_code_by_place_is_nothing_where_the_code_is_0() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        encoder_channels=(4, 8, 8), decoder_channels=(8, 8, 8, 8), place_code=True
    )
    generator, faces = Generator(config, FEW, 3), _batch().faces_BCHW
    with torch.no_grad():
        still, moved = generator(faces, torch.zeros(4, 3)), generator(faces, torch.ones(4, 3))
        for place in generator.decoder.places:
            place.weight.zero_()
        assert torch.equal(still, generator(faces, torch.zeros(4, 3)))
        assert not torch.equal(moved, generator(faces, torch.ones(4, 3)))
    assert [place.weight.shape[-1] for place in generator.decoder.places] == [12, 24, 48]


def test_a_paired_face_takes_its_partners_intensity_as_its_code() -> None:
    system, batch = _system(), _batch()
    stage = system.stages()[-1]
    ctx = StepContext(batch=batch, progress=Progress(), wanted=frozenset({"pair", "pixel"}))
    assert stage.prepare is not None
    code_BKd = stage.prepare(ctx).code_BE.view(4, 3, 1)
    neutral = FEW.classes.index(Expression.NEUTRAL)
    for face, magnitude in ((0, 0.25), (1, None), (2, 1.0)):
        target = int(batch.target_expression_B[face])
        own = float(code_BKd[face, target])
        if target == neutral:
            assert not code_BKd[face].any()
        else:
            assert own == pytest.approx(magnitude)
    alone = system.stages()[-1].prepare(replace(ctx, batch=_batch(8))).code_BE.view(8, 3)[3]
    assert 0 < float(alone.abs().max()) != pytest.approx(0.75)


def test_a_critics_view_is_keyed_and_without_noise_plain() -> None:
    batch = _batch(8)

    def noise(name: str, shape: tuple[int, ...], *, uniform: bool = False) -> torch.Tensor:
        return keyed_noise(batch.key_B[: shape[0]], name, shape, uniform=uniform)

    faces = batch.faces_BCHW
    assert torch.equal(views.seen(views.ViewConfig(), faces, noise), faces)
    config = views.ViewConfig(
        grey=True, mirror=True, shift_pixels=2, light=0.1, gain=0.2, grain=0.02
    )
    assert torch.equal(views.seen(config, faces, None), faces.mean(1, keepdim=True))
    varied = views.seen(config, faces, noise)
    assert varied.shape == (8, 1, 48, 48)
    assert torch.equal(varied, views.seen(config, faces, noise))
    assert torch.equal(varied[:3], views.seen(config, faces[:3], noise))
    placed = views.seen(views.ViewConfig(mirror=True, shift_pixels=2), faces, noise)
    inside, flipped = placed[:, :, 8:-8, 8:-8], faces.flip(3)
    for face, candidates in zip(inside, zip(faces, flipped)):
        shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        gaps = [
            (face - one[:, 8 + y : 40 + y, 8 + x : 40 + x]).abs().max()
            for one in candidates
            for y, x in shifts
        ]
        assert min(gaps) < 1e-4


def test_class_error_asks_for_the_class_to_the_degree_of_the_intensity() -> None:
    classes, logits = torch.tensor([0, 0]), torch.zeros(2, 3)
    logits[:, 2] = 5.0
    term = losses.class_error(logits, classes, torch.tensor([0.0, 1.0]), zero_class=2)
    expected = -torch.log_softmax(logits[0], 0)
    assert float(term.sum) == pytest.approx(float(expected[2] + expected[0]))


def test_simultaneous_turns_learn_pairs() -> None:
    """A loop of ten lines in place of the house's: pairs come nearer, the critic reads classes."""
    run = with_overrides(catalog.recipe("exprgan.tiny"), {"system.identity_network": "random"})
    torch.manual_seed(0)
    system = catalog.load("exprgan").build(run.system, FEW)
    stage = system.stages()[-1]
    schedules = {**weights_of(run), **stage.weights}
    weights = {name: value_at(schedule, 1.0) for name, schedule in schedules.items()}
    optimizers = {
        player.name: torch.optim.Adam(player.module.parameters(), lr=2e-3)
        for player in system.players()
    }
    batch, first, terms = _batch(), {}, {}
    assert stage.prepare is not None
    for _ in range(16):
        ctx = StepContext(batch=batch, progress=Progress(), wanted=wanted(weights))
        with torch.no_grad():
            ctx = replace(ctx, shared=stage.prepare(ctx))
        for turn in stage.groups()[0]:
            due = ctx.wanted.intersection(turn.terms)
            if not due:
                continue
            found = turn.loss(replace(ctx, wanted=due))
            assert set(found) == due
            terms |= {name: (term.sum / term.count) for name, term in found.items()}
            optimizers[turn.player].zero_grad()
            torch.stack([weights[name] * terms[name] for name in due]).sum().backward()
            optimizers[turn.player].step()
        first = first or {name: float(value.detach()) for name, value in terms.items()}
    for name in ("pair_smooth", "critic_class"):
        assert float(terms[name].detach()) < 0.9 * first[name]

"""FERSNet: sizes of the release, every variant plays its turns, the masks, the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data_service.schema import DatasetInfo, Expression, FaceBatch
from trainer import catalog
from trainer.config import RunConfig, wanted, weights_of
from trainer.nets.convflu import GateConfig
from trainer.overrides import with_overrides
from trainer.system import Mean, Progress, Stage, StepContext, System, Turn
from trainer.systems.fersnet import SPEC, losses
from trainer.systems.fersnet.nets import num_drawn, rendered

CLASSES = tuple(Expression)[:5]
NARROW = {
    "system.network.stem_channels": 8,
    "system.network.recognition_channels": (8, 8, 8),
    "system.network.synthesis_channels": (8, 8, 8),
    "system.network.critic_channels": (8, 8, 8),
    "system.identity_network": "random",
    "system.identity_width": 0.1,
}


def info(channels: int = 1, image_size: int = 48) -> DatasetInfo:
    return DatasetInfo(
        classes=CLASSES,
        image_size=image_size,
        channels=channels,
        subjects=4,
        class_images=(7,) * len(CLASSES),
    )


def batch(num: int = 4, channels: int = 1, image_size: int = 48) -> FaceBatch:
    """Four faces: the second has no partner, the last is synthetic."""
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(num, channels, image_size, image_size, generator=generator) * 2 - 1
    partners = torch.rand(num, channels, image_size, image_size, generator=generator) * 2 - 1
    index_B = torch.arange(num)
    valid_B = index_B != 1
    expression_B = index_B % len(CLASSES)
    return FaceBatch(
        faces_BCHW=faces,
        expression_B=expression_B,
        target_expression_B=(expression_B + 1) % len(CLASSES),
        subject_B=index_B,
        row_B=index_B,
        key_B=index_B + 100,
        synthetic_B=index_B == num - 1,
        partners={losses.RULE: partners},
        partner_expression={losses.RULE: (expression_B + 1) % len(CLASSES)},
        partner_valid={losses.RULE: valid_B},
    )


def run_of(recipe: str, **overrides) -> RunConfig:
    values = {**NARROW, "data.image_size": 48, "system.network.joint_pool": False, **overrides}
    return with_overrides(SPEC.recipes[recipe](), values)


def built(run: RunConfig, channels: int = 1) -> System:
    torch.manual_seed(0)
    return SPEC.build(run.system, info(channels, run.data.image_size))


def value(term: Mean | torch.Tensor) -> torch.Tensor:
    return term.sum / term.count.clamp(min=1) if isinstance(term, Mean) else term


def turns_of(stage: Stage) -> list[Turn]:
    return [turn for group in stage.groups() for turn in group]


def play(system: System, run: RunConfig, stage: Stage, faces: FaceBatch) -> dict[str, torch.Tensor]:
    """Every turn of one step with gradients left on the parameters; the terms by name."""
    want = wanted({**weights_of(run), **stage.weights})
    context = StepContext(batch=faces, progress=Progress(), wanted=want)
    assert stage.prepare is not None
    context = replace(context, shared=stage.prepare(replace(context, turn="prepare")))
    found: dict[str, torch.Tensor] = {}
    for turn in turns_of(stage):
        due = want & set(turn.terms)
        for player in system.players():
            player.module.requires_grad_(player.name == turn.player)
        if not due:
            continue
        terms = turn.loss(replace(context, wanted=due, turn=turn.player))
        assert set(terms) == due
        torch.stack([value(term) for term in terms.values()]).sum().backward()
        found |= {name: value(term).detach() for name, term in terms.items()}
    return found


RECIPES = [name for name in SPEC.recipes if name not in ("paper", "figure")]


@pytest.mark.parametrize("recipe", [*RECIPES, "figure"])
def test_every_variant_plays_and_moves_every_parameter(recipe):
    run = run_of(recipe)
    system = built(run)
    for stage in system.stages():
        terms = play(system, run, stage, batch())
        assert terms.keys() == wanted(weights_of(run))
        assert all(torch.isfinite(term) for term in terms.values())
    moving = {"network"} if run.system.sharing == "single" else {"network", "critic"}
    for player in system.players():
        if player.name in moving:
            still = [name for name, p in player.module.named_parameters() if p.grad is None]
            assert not still, f"{player.name}: {still}"


@pytest.mark.parametrize("recipe", list(SPEC.recipes))
def test_terms_and_weights_have_the_same_names(recipe):
    run = run_of(recipe)
    declared = {
        term for stage in built(run).stages() for turn in turns_of(stage) for term in turn.terms
    }
    assert declared == set(weights_of(run))


def test_paper_has_the_parameters_of_the_release():
    run = with_overrides(SPEC.recipes["paper"](), {"system.weights.identity": 0.0})
    with torch.device("meta"):
        six = DatasetInfo(classes=tuple(Expression)[:6], image_size=96, channels=3, subjects=4)
        network, critic = SPEC.build(run.system, six).players()
    assert sum(p.numel() for p in network.module.parameters()) == 53_983_438
    assert sum(p.numel() for p in critic.module.parameters()) == 2_770_881


@pytest.mark.parametrize("form", ["release", "figure"])
@pytest.mark.parametrize("channels", [1, 3])
def test_predicts_logits_images_and_gate_maps(form, channels):
    system = built(run_of("small", **{"system.form": form}), channels)
    for player in system.players():
        player.module.eval()
    with torch.inference_mode():
        found = system.predict(batch(channels=channels))
    assert found.logits_BK is not None and found.logits_BK.shape == (4, len(CLASSES))
    assert found.images_BCHW is not None and found.images_BCHW.shape == (4, channels, 48, 48)
    assert found.images_BCHW.abs().max() <= 1
    assert len(found.maps) == 12
    assert found.maps["scale_1/to_recognition/leak"].shape[:2] == (4, 1)


def test_single_task_neither_edits_nor_needs_partners():
    system = built(run_of("small_single_task"))
    found = system.predict(batch())
    assert found.images_BCHW is None
    assert not system.gates()


def test_single_task_lacks_a_capability():
    assert "synthesise" not in catalog.spec_of(run_of("small_single_task")).capabilities
    assert "synthesise" in catalog.spec_of(run_of("small")).capabilities


def test_single_task_with_editing_weights_is_refused():
    with pytest.raises(ValueError, match=r"system\.weights\.pixel"):
        built(run_of("small_single_task", **{"system.weights.pixel": 1.0}))


def test_a_face_without_partner_counts_for_adversary_and_cycle_only():
    settings = {"system.edit_every": 1, "system.weights.identity": 0.05}
    run = run_of("small", **settings)
    system = built(run)
    (stage,) = system.stages()
    counts = {}
    for turn in turns_of(stage):
        context = StepContext(batch=batch(), progress=Progress(), wanted=frozenset(turn.terms))
        assert stage.prepare is not None
        everything = replace(context, wanted=wanted(weights_of(run)), turn="prepare")
        context = replace(context, shared=stage.prepare(everything))
        for name, term in turn.loss(context).items():
            assert isinstance(term, Mean)
            counts[name] = int(term.count)
    assert counts == {
        "classification": 4,
        "pixel": 2,
        "smooth": 2,
        "identity": 2,
        "adversarial": 3,
        "cycle": 3,
        "expression": 3,
        "keep": 3,
        "critic": 3,
        "mismatch": 3,
    }


def test_two_halves_make_the_same_terms_as_the_whole():
    """Up to batch norm, which the loop's ranks share."""
    run = run_of("small", **{"system.edit_every": 2, "system.network.recognition_norm": "none"})
    system, whole = built(run), batch(8)
    stage = system.stages()[0]

    def sums(faces: FaceBatch) -> dict[str, Mean]:
        context = StepContext(batch=faces, progress=Progress(), wanted=wanted(weights_of(run)))
        assert stage.prepare is not None
        context = replace(context, shared=stage.prepare(replace(context, turn="prepare")))
        found: dict[str, Mean] = {}
        for turn in turns_of(stage):
            due = replace(context, turn=turn.player, wanted=context.wanted & set(turn.terms))
            found.update(turn.loss(due))  # type: ignore[arg-type]
        return found

    first, second, both = sums(whole.slice(0, 4)), sums(whole.slice(4, 8)), sums(whole)
    for name, term in both.items():
        torch.testing.assert_close(
            first[name].sum + second[name].sum, term.sum, rtol=1e-4, atol=1e-6
        )
        assert first[name].count + second[name].count == term.count


@pytest.mark.parametrize("output", ["image", "residual", "warp"])
@pytest.mark.parametrize("form", ["release", "figure"])
def test_every_output_learns(form, output):
    run = run_of("small", **{"system.form": form, "system.network.output": output})
    system = built(run)
    terms = play(system, run, system.stages()[0], batch())
    assert all(torch.isfinite(term) for term in terms.values())
    decoder = system.players()[0].module.decoder
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_a_still_warp_leaves_the_face():
    faces = batch(channels=3).faces_BCHW
    drawn = torch.zeros(4, num_drawn("warp", 3), 48, 48)
    torch.testing.assert_close(rendered("warp", faces, drawn), faces, atol=1e-5, rtol=1e-5)


def test_edited_faces_do_not_move_the_running_statistics():
    run = run_of("small", **{"system.weights.cycle": 1.0})
    want = wanted(weights_of(run))

    def statistics(terms: frozenset[str]) -> dict[str, torch.Tensor]:
        system = built(run)
        (stage,) = system.stages()
        context = StepContext(batch=batch(), progress=Progress(), wanted=terms)
        assert stage.prepare is not None
        context = replace(context, shared=stage.prepare(context))
        turns_of(stage)[1].loss(replace(context, turn="network"))
        buffers = system.players()[0].module.named_buffers()
        return {name: value for name, value in buffers if "running_" in name}

    alone = statistics(frozenset({"classification"}))
    together = statistics(want - losses.JUDGING)
    assert alone.keys() == together.keys() and alone
    assert all(torch.equal(value, together[name]) for name, value in alone.items())


def test_edit_every_thins_the_editing_alone():
    run = run_of("small", **{"system.edit_every": 2})
    system = built(run)
    (stage,) = system.stages()
    assert stage.prepare is not None
    context = StepContext(batch=batch(), progress=Progress(), wanted=wanted(weights_of(run)))
    shared = stage.prepare(replace(context, turn="prepare"))
    assert shared.images_BCHW.shape[0] == 2


@pytest.mark.parametrize("bias", [-12.0, 12.0])
@pytest.mark.parametrize("gate", ["leak_bias", "memory_bias"])
def test_gates_open_and_shut(gate, bias):
    run = run_of("small", **{f"system.gates.{gate}": bias})
    system = built(run)
    play(system, run, system.stages()[0], batch())
    kind = gate.removesuffix("_bias")
    openings = {name: value for name, value in system.gates().items() if name.endswith(kind)}
    assert len(openings) == 6
    assert all(value > 0.99 if bias > 0 else value < 0.01 for value in openings.values())


@pytest.mark.parametrize("direction", ["to_recognition", "to_synthesis", "none"])
@pytest.mark.parametrize("form", ["release", "figure"])
def test_one_way_and_no_units(form, direction):
    run = run_of("small", **{"system.form": form, "system.gates.direction": direction})
    system = built(run)
    terms = play(system, run, system.stages()[0], batch())
    assert all(torch.isfinite(term) for term in terms.values())
    assert len(system.gates()) == (0 if direction == "none" else 6)


def test_figure_recognises_without_what_only_the_decoder_needs():
    settings = {"system.form": "figure", "system.gates.direction": "to_synthesis"}
    network = built(run_of("small", **settings)).players()[0].module.eval()
    faces = batch().faces_BCHW
    alone, whole = network.encode(faces, decodes=False), network.encode(faces)
    assert not alone.skips
    torch.testing.assert_close(network.classify(alone), network.classify(whole))


def test_noise_moves_the_edit_once_its_strength_is_learned():
    system = built(run_of("small"))
    network = system.players()[0].module.eval()
    network.decoder.transform.noise_strength.data.fill_(1.0)
    encoded = network.encode(batch().faces_BCHW)
    target = losses.one_hot(torch.tensor([0, 1, 2, 3]), len(CLASSES))
    noise = [
        tuple(
            torch.randn(4, 1, side, side, generator=torch.Generator().manual_seed(seed))
            for side in network.noise_sides
        )
        for seed in (1, 2)
    ]
    first, second = (network.decode(encoded, target, one) for one in noise)
    assert not torch.equal(first, second)
    torch.testing.assert_close(network.decode(encoded, target, noise[0]), first)


def test_sides_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match="joint_pool"):
        SPEC.build(run_of("small", **{"system.network.joint_pool": True}).system, info())
    with pytest.raises(ValueError, match="multiple of 8"):
        SPEC.build(run_of("figure").system, info(image_size=50))


def test_without_an_identity_network_the_error_says_how_to_get_one():
    run = run_of("tiny", **{"system.identity_network": ""})
    with pytest.raises(ValueError, match="mien train identity"):
        built(run)


def test_gate_settings_are_knobs():
    run = with_overrides(
        SPEC.recipes["small"](),
        {"system.gates.scale_2.to_synthesis": "false", "lambda_adv": "0.2->0.4"},
    )
    assert not run.system.gates.has_unit(2, "to_synthesis")
    assert run.system.gates.has_unit(3, "to_synthesis")
    assert run.system.weights.adversarial.end == 0.4
    assert replace(run.system, gates=GateConfig()).gates.has_unit(2, "to_synthesis")

"""What every system is tested for, just by existing. Numbers count the contract's promises."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.contract import batches as made_of
from trainer import catalog, checkpoint
from trainer.config import to_dict, weights_of
from trainer.loop import fit
from trainer.overrides import from_dict, knobs, with_overrides
from trainer.scorecard.evaluate import evaluating, with_reference
from trainer.synthetic.fesda import Generator
from trainer.system import CAPABILITIES
from trainer.training import Training
from trainer.world import World

SYSTEMS = catalog.names()
GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.parametrize("name", SYSTEMS)


def train(training: Training, steps: int | None = None) -> list[dict[str, float]]:
    """Take `steps` steps, or all; the raw terms of each."""
    results = islice(fit(training, made_of.batches(training)), steps)
    return [{key: float(value) for key, value in result.terms.items()} for result in results]


def test_tiny_takes_two_steps_of_every_stage(name: str) -> None:
    """1. All terms finite; 2. and what is declared is what is weighed and computed."""
    training = made_of.training(made_of.tiny(name), World.alone())
    seen: dict[str, set[str]] = {stage.name: set() for stage in training.stages}
    for result in fit(training, made_of.batches(training)):
        assert all(bool(torch.isfinite(value)) for value in result.terms.values())
        seen[result.stage] |= set(result.terms)
    for stage in training.stages:
        declared = {term for group in stage.groups() for turn in group for term in turn.terms}
        weighed = {**weights_of(training.run), **stage.weights}
        due = {term for term in declared if made_of.starts_above_zero(weighed[term])}
        assert seen[stage.name] == due
    assert training.progress.stage == len(training.stages)


def test_terms_and_weights_are_the_same_names(name: str) -> None:
    """2. Both ways, over all stages."""
    training = made_of.training(made_of.tiny(name), World.alone())
    turns = [turn for stage in training.stages for group in stage.groups() for turn in group]
    assert {term for turn in turns for term in turn.terms} == set(weights_of(training.run))


@pytest.mark.parametrize("zero", [None, 1])
def test_a_turn_moves_its_own_player_only(name: str, zero: int | None, monkeypatch) -> None:
    """3. Parameters and buffers; frozen networks never change. With DeepSpeed too."""
    if zero is not None:
        pytest.importorskip("deepspeed")
    training = made_of.training(made_of.tiny(name), World.alone(), steps_per_stage=1)
    frozen = {key: made_of.content(net) for key, net in training.system.frozen().items()}
    moved = made_of.watch_turns(training, monkeypatch)
    train(training)
    for player, changed in moved:
        assert changed <= {player}, f"the turn of {player} changed {changed}"
    for key, net in training.system.frozen().items():
        assert made_of.content(net) == frozen[key]
    if training.players:
        assert {player for player, changed in moved if changed} == {
            turn.player for stage in training.stages for group in stage.groups() for turn in group
        }


def test_bf16_trains_near_fp32(name: str) -> None:
    """Every stage runs in autocast, and its first terms are those of fp32 within its precision."""
    first = {}
    for precision in ("fp32", "bf16"):
        run = with_overrides(made_of.tiny(name), {"engine.precision": precision})
        first[precision] = train(made_of.training(run, World.alone(), steps_per_stage=1))[0]
    assert first["bf16"] == pytest.approx(first["fp32"], rel=0.1, abs=0.05)


def test_first_steps_train_without_what_starts_later(name: str) -> None:
    """Terms whose weight is still 0 are not computed, and nothing else needs them."""
    training = made_of.training(made_of.tiny(name, ramps=True), World.alone(), steps_per_stage=2)
    train(training)


def test_every_trained_parameter_gets_a_gradient(name: str, monkeypatch) -> None:
    """4. In some turn of the stage that trains it."""
    training = made_of.training(made_of.tiny(name), World.alone(), steps_per_stage=2)
    lacking = made_of.watch_gradients(training, monkeypatch)
    train(training)
    assert not lacking(), f"no gradient in: {lacking()}"


def test_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    """5. Bit for bit on CPU, across a stage's border too."""
    run = made_of.tiny(name)
    whole = made_of.training(run, World.alone())
    losses = train(whole)
    for cut in range(1, len(losses)):
        first = made_of.training(run, World.alone())
        train(first, cut)
        picture = checkpoint.capture(first, {})
        assert picture is not None
        path = checkpoint.write(tmp_path / str(cut), picture)
        second = made_of.training(run, World.alone())
        checkpoint.restore(second, checkpoint.read(path))
        assert train(second) == losses[cut:], f"resumed after step {cut}"
        assert made_of.equal(made_of.weights_of(whole), made_of.weights_of(second))


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_two_ranks_are_one(name: str, zero: int, ranks) -> None:
    """6. First-step gradients, and with SGD the weights after 20 steps, within 1e-5 relative."""
    alone = made_of.with_sgd(World.alone(), name, None)
    for side_by_side in ranks.run(made_of.with_sgd, name, zero):
        assert made_of.distance(alone["gradients"], side_by_side["gradients"]) < 1e-5
        assert made_of.distance(alone["weights"], side_by_side["weights"]) < 1e-5
        assert made_of.distance(alone["movement"], side_by_side["movement"]) < 1e-2


def test_every_knob_survives_override_and_json(name: str) -> None:
    """7. An unknown path names its neighbours."""
    run = made_of.tiny(name)
    assert from_dict(json.loads(json.dumps(to_dict(run)))) == run
    for knob in knobs(run):
        for value in knob.choices or (knob.default,):
            changed = with_overrides(run, {knob.path: value})
            assert from_dict(json.loads(json.dumps(to_dict(changed)))) == changed
        if knob.alias:
            assert with_overrides(run, {knob.alias: knob.default}) == run
    section = "system.weights" if weights_of(run) else "system"
    first = next(knob.path for knob in knobs(run) if knob.path.rpartition(".")[0] == section)
    with pytest.raises(ValueError, match=re.escape(first)):
        with_overrides(run, {f"{section}.no_such_setting": 1.0})


def test_any_weight_at_zero_trains(name: str) -> None:
    """8. The term is then not computed."""
    run = made_of.tiny(name)
    for term in weights_of(run):
        training = made_of.training(made_of.zero_weight(run, term), World.alone(), 1)
        assert all(term not in losses for losses in train(training))


def test_gates_work_open_and_shut(name: str) -> None:
    """8. Every switch below system.gates, both ways."""
    run = made_of.tiny(name)
    for path in made_of.gate_switches(run):
        for value in (True, False):
            train(made_of.training(with_overrides(run, {path: value}), World.alone(), 1))


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_what_on_enter_wrote_survives_a_step(name: str, zero: int, ranks) -> None:
    """8. At every ZeRO stage: the masters follow."""
    for kept in ranks.run(made_of.on_enter_survives, name, zero):
        assert kept


def test_losses_equal_the_golden_file(name: str) -> None:
    """9. Within 1e-3 relative; a change to the file is a reviewed diff.

    Of a closed form, which has no loss, the size of what was solved.
    """
    training = made_of.training(made_of.tiny(name), World.alone())
    losses = train(training)
    if not training.players:
        solved = training.system.state_dict()
        losses.append({key: float(value.double().norm()) for key, value in solved.items()})
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(losses, indent=1) + "\n")
        pytest.fail(f"{path.name} was missing and is now written: review and commit it")
    golden = json.loads(path.read_text())
    assert [sorted(step) for step in losses] == [sorted(step) for step in golden]
    for step, expected in zip(losses, golden, strict=True):
        assert step == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_paper_recipe_and_readme(name: str) -> None:
    """10. `paper()` validates; the README says paper, deviations, command and figures."""
    spec = catalog.load(name)
    assert {"paper", "small", "tiny"} <= set(spec.recipes)
    assert spec.capabilities <= set(CAPABILITIES)
    for recipe in spec.recipes.values():
        assert from_dict(json.loads(json.dumps(to_dict(recipe())))) == recipe()
    readme = (Path(catalog.__file__).parent / "systems" / name / "README.md").read_text().lower()
    for needed in ("paper", "deviation", f"mien train {name}", "figures"):
        assert needed in readme, f"the README of {name} does not say: {needed}"


def test_no_global_randomness_in_a_turn(name: str) -> None:
    """Noise comes from the context alone: torch's generator does not move."""
    training = made_of.training(made_of.tiny(name), World.alone())
    before = torch.random.get_rng_state()
    train(training)
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_norm_of_one_rank_alone(name: str) -> None:
    """torch's own batch norms and dropouts would depend on the number of workers."""
    training = made_of.training(made_of.tiny(name), World.alone())
    forbidden = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)
    for player in training.players.values():
        found = [key for key, net in player.module.named_modules() if isinstance(net, forbidden)]
        assert not found


def test_prediction_fits_the_capabilities(name: str) -> None:
    """What a system says it can do is what `predict` gives, in the agreed shapes."""
    training = made_of.training(made_of.tiny(name), World.alone())
    info = made_of.info_of(training.run)
    batch = made_of.make(made_of.needs_of(training, 0), info, 4, 0)
    with torch.no_grad():
        for player in training.players.values():
            player.module.eval()
        prediction = training.system.predict(batch)
    capabilities = catalog.load(name).capabilities
    if "recognise" in capabilities:
        assert prediction.logits_BK is not None
        assert prediction.logits_BK.shape == (4, len(info.classes))
    if "synthesise" in capabilities:
        assert prediction.images_BCHW is not None
        assert prediction.images_BCHW.shape == batch.faces_BCHW.shape
    if "attributes" in capabilities:
        assert prediction.attributes_BA is not None
        assert prediction.attributes_BA.shape == (4, len(info.attributes))
    if "identify" in capabilities:
        assert prediction.features_BD is not None


def test_generators_fill_pools(name: str) -> None:
    """Bare faces and targets are enough for FES-DA: edits in range, each time the same."""
    run = made_of.tiny(name)
    if "synthesise" not in catalog.spec_of(run).capabilities:
        pytest.skip("it makes no faces")
    info = made_of.info_of(run)
    faces_BCHW = torch.linspace(-1, 1, 2 * info.channels * info.image_size**2).reshape(
        2, info.channels, info.image_size, info.image_size
    )
    generator = Generator(made_of.build(run), run)
    first, second = (generator(faces_BCHW, torch.tensor([0, 1])) for _ in range(2))
    assert first.shape == faces_BCHW.shape and first.dtype == torch.float32
    assert torch.equal(first, second)
    assert bool((first.abs() <= 1).all())
    assert generator.hash == Generator(made_of.build(run), run).hash


@pytest.mark.parametrize("capability", ["intensity", "transfer"])
def test_edits_take_what_the_system_says_it_can_be_asked_for(name: str, capability: str) -> None:
    """A level of intensity, or a face whose expression is to be taken over: another one, another
    edit."""
    run = made_of.tiny(name)
    if capability not in catalog.spec_of(run).capabilities:
        pytest.skip(f"it has no {capability}")
    info = made_of.info_of(run)
    needs = catalog.load(name).data(run.system)
    first, *others = (made_of.make(needs, info, 4, step) for step in range(3))
    asked = {
        "intensity": [replace(first, target_intensity_B=torch.full((4,), at)) for at in (0.2, 1.0)],
        "transfer": [with_reference(first, one.faces_BCHW, one.expression_B) for one in others],
    }
    system = made_of.build(run)
    with evaluating(system), torch.no_grad():
        one, other = (system.predict(batch).images_BCHW for batch in asked[capability])
    assert one is not None and other is not None and one.shape == first.faces_BCHW.shape
    assert bool(torch.isfinite(one).all()) and not torch.equal(one, other)

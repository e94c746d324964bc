"""Lanes of one pass: what becomes of them when one fails, and who goes together."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_service.ingest import ingest
from tests.contract import batches as made_of
from trainer import catalog
from trainer.kin import kin_of
from trainer.loop import due_steps
from trainer.overrides import with_overrides
from trainer.tensor_trees import tensors_of, with_tensors
from trainer.training import DueStep, NonFiniteTermError, StepResult, Training
from trainer.world import World
from tuning.fused import Fused, LostStepError
from tuning.search import search

RATE = "system.optimizer.learning_rate"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=48, options={"subjects": 12, "faces_per_subject": 8})
    return path


def lane(rate: float = 1e-3, **overrides: Any) -> Training:
    run = made_of.tiny("baseline", **{RATE: rate, **overrides})
    made = made_of.training(run, World.alone(), steps_per_stage=3)
    made.kin = kin_of(run, catalog.load("baseline"), made_of.info_of(run))
    return made


def due(training: Training) -> tuple[DueStep, Iterator[DueStep | StepResult]]:
    """The training's first step, and what follows."""
    steps = due_steps(training, made_of.batches(training))
    first = next(steps)
    assert isinstance(first, DueStep)
    return first, steps


def alone(training: Training) -> dict[str, torch.Tensor]:
    """The weights after a step."""
    next(item for item in due_steps(training, made_of.batches(training)) if is_result(item))
    return made_of.weights_of(training)


def is_result(item: Any) -> bool:
    return isinstance(item, StepResult)


def test_a_lane_that_is_not_finite_fails_by_itself() -> None:
    trainings = [lane(1e-3), lane(2e-3), lane(3e-3)]
    firsts, rests = zip(*map(due, trainings), strict=True)
    firsts[1].batch.faces_BCHW.fill_(torch.nan)
    before = made_of.weights_of(trainings[1])
    Fused()(firsts)
    with pytest.raises(NonFiniteTermError, match="after 0 images: not finite: classification"):
        next(rests[1])
    moved = [name for name, _ in trainings[1].players["classifier"].module.named_parameters()]
    after = made_of.weights_of(trainings[1])
    assert all(
        torch.equal(before[f"classifier/{name}"], after[f"classifier/{name}"]) for name in moved
    )
    for index, rate in ((0, 1e-3), (2, 3e-3)):
        assert is_result(next(rests[index]))
        assert made_of.distance(made_of.weights_of(trainings[index]), alone(lane(rate))) < 1e-3


def test_where_memory_runs_out_one_lane_is_told_and_the_others_go_back() -> None:
    trainings = [lane(1e-3), lane(2e-3), lane(3e-3)]
    firsts, rests = zip(*map(due, trainings), strict=True)

    def starved(_context: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    ((turn,),) = firsts[0].stage.groups()
    firsts[0].stage = replace(firsts[0].stage, turns=(replace(turn, loss=starved),))
    Fused()(firsts)
    for rest, error in zip(
        rests, (torch.OutOfMemoryError, LostStepError, LostStepError), strict=True
    ):
        with pytest.raises(error):
            next(rest)


def test_a_training_whose_step_is_lost_holds_no_memory() -> None:
    """Its frames hang in no circle that only the garbage collector would break."""

    def lost() -> weakref.ref[Any]:
        training = lane()
        first, rest = due(training)
        first.found = LostStepError("a lane beside it ran out of memory")
        with suppress(LostStepError):
            next(rest)
        return weakref.ref(training.players["classifier"].module)

    gc.collect()
    gc.disable()
    try:
        assert lost()() is None
    finally:
        gc.enable()


def test_a_system_that_proves_unable_takes_turns_from_its_first_step() -> None:
    trainings = [lane(1e-3), lane(2e-3)]
    firsts, rests = zip(*map(due, trainings), strict=True)
    fused = Fused()
    ((turn,),) = firsts[0].stage.groups()

    def counts(context: Any) -> Any:
        turn.loss(context)
        return {"classification": context.batch.faces_BCHW[context.batch.expression_B == 0].sum()}

    stage = firsts[0].stage
    firsts[0].stage = replace(stage, turns=(replace(turn, loss=counts),))
    fused(firsts)
    assert [step.found for step in firsts] == [None, None]
    firsts[0].stage = stage
    for rest, rate in zip(rests, (1e-3, 2e-3), strict=True):
        next(rest)
        assert made_of.equal(made_of.weights_of(trainings[rests.index(rest)]), alone(lane(rate)))
    again = [next(rest) for rest in rests]
    fused(again)
    assert [step.found for step in again] == [None, None]


def test_where_a_pass_fails_later_all_go_back_and_take_turns() -> None:
    trainings = [lane(1e-3), lane(2e-3)]
    firsts, rests = zip(*map(due, trainings), strict=True)
    fused = Fused()
    fused(firsts)
    seconds = []
    for rest in rests:
        assert is_result(next(rest))
        seconds.append(next(rest))
    ((turn,),) = seconds[0].stage.groups()

    def fails(_context: Any) -> Any:
        raise ValueError("a rule is missing")

    seconds[0].stage = replace(seconds[0].stage, turns=(replace(turn, loss=fails),))
    fused(seconds)
    for rest in rests:
        with pytest.raises(LostStepError, match="one pass failed: a rule is missing"):
            next(rest)
    again, _ = zip(*map(due, (lane(1e-3), lane(2e-3))), strict=True)
    fused(again)
    assert [step.found for step in again] == [None, None]


def test_lanes_that_are_at_other_turns_wait_until_they_are_at_the_same() -> None:
    """The critic of `fersnet.tiny` plays in every second step only."""
    trainings = []
    for rate in (1e-3, 2e-3, 3e-3):
        run = made_of.tiny("fersnet", **{RATE: rate, "data.global_batch_images": 4})
        one = made_of.training(run, World.alone(), steps_per_stage=6)
        one.kin = "fersnet"
        trainings.append(one)
    ahead = due_steps(trainings[0], made_of.batches(trainings[0]))
    assert [is_result(next(ahead)) for _ in range(2)] == [False, True]
    steps = [next(ahead), *(due(one)[0] for one in trainings[1:])]
    fused = Fused()
    waiting = fused(steps)
    assert waiting == steps[1:] and [step.found for step in steps] == [None, None, None]
    assert is_result(next(ahead))
    steps[0] = next(ahead)
    assert not fused(steps)
    assert all(isinstance(step.found, dict) for step in steps), "now all three go together"


def test_a_lane_that_is_left_alone_keeps_no_stack() -> None:
    trainings = [lane(1e-3), lane(2e-3)]
    firsts, rests = zip(*map(due, trainings), strict=True)
    fused = Fused()
    fused(firsts)
    assert is_result(next(rests[0]))
    before = made_of.weights_of(trainings[0])
    fused([next(rests[0])])
    parameters = list(trainings[0].players["classifier"].module.parameters())
    assert all(one.untyped_storage().nbytes() == one.nbytes for one in parameters)
    assert made_of.equal(before, made_of.weights_of(trainings[0]))


def test_only_trainings_of_one_kin_go_together() -> None:
    spec = catalog.load("fersnet")
    run = made_of.tiny("fersnet")
    info = made_of.info_of(run)

    def kin(info: Any = info, **changes: Any) -> str:
        return kin_of(with_overrides(run, changes), spec, info)

    own = {
        "system.weights.adversarial": 0.9,
        "system.gates.temperature": 3.0,
        "system.gates.memory_bias": 1.0,
        RATE: 1e-5,
        "evaluation.every_images": 7,
    }
    assert kin(**own) == kin()
    shared = [
        {"system.weights.adversarial": 0.0},
        {"system.gates.granularity": "scalar"},
        {"system.gates.scale_2.to_synthesis": False},
        {"data.global_batch_images": 4},
        {"engine.precision": "bf16"},
        {"seed": 5},
        {"info": replace(info, class_images=(1, 2, 3))},
    ]
    kins = [kin(**changes) for changes in shared]
    assert len({kin(), *kins}) == len(kins) + 1
    assert not kin_of(run, catalog.load("attentive_hybrid"), info)


def test_steps_that_cannot_go_together_are_left_alone() -> None:
    alike, other, nobody = lane(), lane(), lane()
    other.kin, nobody.kin = "other", ""
    firsts, _ = zip(*map(due, (alike, other, nobody)), strict=True)
    Fused()(firsts)
    assert [step.found for step in firsts] == [None, None, None]


def test_every_tensor_stays_its_trainings_own_and_laid_out_as_before() -> None:
    trainings = [lane(rate, **{"engine.channels_last": True}) for rate in (1e-3, 2e-3)]
    module = trainings[1].players["classifier"].module
    before = {name: (id(value), value.stride()) for name, value in module.named_parameters()}
    firsts, _ = zip(*map(due, trainings), strict=True)
    Fused()(firsts)
    after = {name: (id(value), value.stride()) for name, value in module.named_parameters()}
    assert after == before
    moments = trainings[1].engines["classifier"].moments()
    assert moments and all(torch.isfinite(value).all() for value in moments.values())


def test_tensors_are_taken_out_and_put_back_in_order() -> None:
    batch = made_of.make(
        catalog.load("exprgan").data(made_of.tiny("exprgan").system), made_of.INFO, 4, 0
    )
    value = {"batch": batch, "more": [(torch.ones(2), "text"), None, 3]}
    tensors = tensors_of(value)
    again = with_tensors(value, iter([tensor + 1 for tensor in tensors]))
    assert again["more"][0][1] == "text" and again["more"][1:] == [None, 3]
    assert all(torch.equal(a, b + 1) for a, b in zip(tensors_of(again), tensors, strict=True))


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("baseline", {"lanes": 1}, r"--fused .* give --lanes above 1"),
        ("attentive_hybrid", {}, r"attentive_hybrid cannot .* no rule for its LSTMs"),
        (
            "baseline",
            {"search": ["system.network.width=0.1:0.9"]},
            r"differ in system.network.width",
        ),
        ("baseline", {"objectives": ["images_per_second"]}, r"--lanes 2: lanes share a process"),
    ],
)
def test_fusing_is_refused_where_it_cannot_be(
    lake: Path, name: str, asked: dict[str, Any], told: str
) -> None:
    asked = {"lanes": 2, "search": [f"{RATE}=1e-4:1e-2:log"], **asked}
    with pytest.raises(ValueError, match=told):
        search(made_of.tiny(name), lake, trials=2, fused=True, **asked)

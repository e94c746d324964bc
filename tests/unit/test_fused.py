"""Lanes of one pass: what becomes of them when one fails, and who goes together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract import batches as made_of
from trainer import catalog
from trainer.kin import kin_of
from trainer.loop import due_steps
from trainer.overrides import with_overrides
from trainer.training import DueStep, NonFiniteTermError, StepResult, Training
from trainer.world import World
from tuning.fused import Fused, LostStepError, tensors_of, with_tensors
from tuning.search import search

RATE = "system.optimizer.learning_rate"


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
        rests, (LostStepError, LostStepError, torch.OutOfMemoryError), strict=True
    ):
        with pytest.raises(error):
            next(rest)


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


def test_fusing_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--fused .* give --lanes above 1"):
        search(made_of.tiny("baseline"), tmp_path, trials=2, fused=True)
    with pytest.raises(ValueError, match=r"attentive_hybrid cannot .* no rule for its LSTMs"):
        search(made_of.tiny("attentive_hybrid"), tmp_path, trials=2, lanes=2, fused=True)

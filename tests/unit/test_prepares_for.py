"""What `prepare` makes for a player is made once: with its gradients, and on its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from tests.contract import batches as made_of
from trainer.config import weight
from trainer.loop import begin, fit
from trainer.nets.norm import BatchNorm2d
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig, Player, Prediction, Stage, System, Turn
from trainer.training import Training
from trainer.world import World


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    judge: Schedule = weight(1.0)
    fool: Schedule = weight(1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    weights: Weights = field(default_factory=Weights)
    balance: bool = False


Change = Callable[[Stage], Stage]


class Pair(System):
    """A maker and a judge of it; the made faces are shared, or made anew on each turn."""

    def __init__(self, *, shares: bool, change: Change = lambda stage: stage) -> None:
        self.shares = shares
        self.change = change
        self.maker = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), BatchNorm2d(3))
        self.judge = nn.Conv2d(3, 1, 3)
        sgd = OptimizerConfig(name="sgd", learning_rate=0.1)
        self.both = tuple(
            Player(name=name, module=module, optimizer=sgd)
            for name, module in (("judge", self.judge), ("maker", self.maker))
        )

    def players(self) -> tuple[Player, ...]:
        return self.both

    def stages(self) -> tuple[Stage, ...]:
        turns = (
            Turn(player="judge", terms=("judge",), loss=self._judge, repeats=2),
            Turn(player="maker", terms=("fool",), loss=self._fool),
        )
        own = "maker" if self.shares else None
        stage = Stage(name="all", images=32, turns=turns, prepare=self._make, prepares_for=own)
        return (self.change(stage),)

    def _make(self, context):
        return self.maker(context.batch.faces_BCHW)

    def _judge(self, context):
        assert not any(one.requires_grad for one in self.maker.parameters())
        return {"judge": self.judge(context.shared.detach()).square().mean()}

    def _fool(self, context):
        made = context.shared if self.shares else self._make(context)
        return {"fool": (self.judge(made) - 1).square().mean()}

    def predict(self, batch) -> Prediction:
        return Prediction(images_BCHW=self.maker(batch.faces_BCHW))


def trained(*, shares: bool) -> Training:
    torch.manual_seed(0)
    run = replace(made_of.tiny("baseline"), system=Config())
    made = begin(run, Pair(shares=shares), World.alone())
    for _ in fit(made, made_of.batches(made)):
        pass
    return made


def with_turns(**changes: object) -> Change:
    return lambda stage: replace(
        stage, turns=tuple(replace(turn, repeats=1, **changes) for (turn,) in stage.groups())
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda stage: replace(stage, prepares_for="nobody"), "has 0"),
        (lambda stage: replace(stage, prepares_for="judge"), r"has 1: every \[1\] steps, \[2\] t"),
        (with_turns(every=2), r"has 1: every \[2\] steps"),
        (with_turns(player="maker"), "has 2"),
    ],
)
def test_a_player_that_is_prepared_for_has_one_turn_in_every_step(
    change: Change, says: str
) -> None:
    run = replace(made_of.tiny("baseline"), system=Config())
    with pytest.raises(AssertionError, match=f"must have one turn in every step and {says}"):
        begin(run, Pair(shares=True, change=change), World.alone())


def test_shared_faces_train_as_those_made_anew() -> None:
    """Parameters and running statistics alike: they move once a step."""
    shared, anew = (made_of.weights_of(trained(shares=shares)) for shares in (True, False))
    assert shared.keys() == anew.keys()
    for name, value in shared.items():
        torch.testing.assert_close(value, anew[name], msg=name)

"""The cascade: one model and one stage for each decision, from the easiest class on.

Source: Wu, Zhang, Chen, Navarrete Michelini, ICPR 2020 (abstract). Shapes: B faces, K classes of
the run, M classes of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

from torch import nn

from trainer.system import (
    DataNeeds,
    DatasetInfo,
    FaceBatch,
    Mean,
    Player,
    Prediction,
    Stage,
    StepContext,
    System,
    Turn,
)
from trainer.systems.cascade_gabor.config import CascadeGaborConfig
from trainer.systems.cascade_gabor.losses import Decision, cascade, decision_loss, decisions
from trainer.systems.cascade_gabor.nets import Decider


class CascadeGabor(System):
    """A player for each model; the cascade itself has no parameters."""

    def __init__(self, config: CascadeGaborConfig, info: DatasetInfo) -> None:
        _check(config)
        self.config, self.info = config, info
        order = [info.classes.index(name) for name in config.order if name in info.classes]
        self.decisions = decisions(order, len(info.classes))
        if not self.decisions:
            raise ValueError("cascade_gabor: at least two classes are needed to decide anything")
        self.models: dict[str, nn.Module] = {
            self._name(decision): Decider(config, decision.num_classes)
            for decision in self.decisions
        }

    def _name(self, decision: Decision) -> str:
        return "rest" if decision.chosen is None else str(self.info.classes[decision.chosen])

    def players(self) -> tuple[Player, ...]:
        optimizer = self.config.optimizer
        return tuple(
            Player(name=name, module=model, optimizer=optimizer)
            for name, model in self.models.items()
        )

    def stages(self) -> tuple[Stage, ...]:
        return tuple(self._stage(decision) for decision in self.decisions)

    def _stage(self, decision: Decision) -> Stage:
        name = self._name(decision)
        turn = Turn(player=name, terms=("decision",), loss=self._loss(decision))
        left = tuple(self.info.classes[index] for index in decision.left)
        return Stage(
            name=name,
            images=self.config.images,
            turns=(turn,),
            data=DataNeeds(classes=left, balance=True),
        )

    def _loss(self, decision: Decision) -> Callable[[StepContext], Mapping[str, Mean]]:
        model, smoothing = self.models[self._name(decision)], self.config.label_smoothing

        def loss(ctx: StepContext) -> Mapping[str, Mean]:
            logits_BM = model(ctx.batch.faces_BCHW, ctx.noise)
            found = decision_loss(logits_BM, ctx.batch.expression_B, decision, smoothing)
            return {"decision": found}

        return loss

    def predict(self, batch: FaceBatch) -> Prediction:
        """The cascade's choice on top; no model is spared, so that all classes get their share."""
        answers = [model(batch.faces_BCHW) for model in self.models.values()]
        thresholds = [getattr(self.config.gates, item.name) for item in fields(self.config.gates)]
        classes = len(self.info.classes)
        return Prediction(logits_BK=cascade(answers, self.decisions, thresholds, classes))


def _check(config: CascadeGaborConfig) -> None:
    """ValueError for an order or a bank that cannot be."""
    if len(config.order) > len(fields(config.gates)) or len(set(config.order)) < len(config.order):
        raise ValueError(
            f"system.order is {', '.join(config.order)}; valid: at most "
            f"{len(fields(config.gates))} different classes"
        )
    if config.gabor.kernel_size % 2 == 0:
        raise ValueError(f"system.gabor.kernel_size is {config.gabor.kernel_size}; valid: odd")


def build(config: CascadeGaborConfig, info: DatasetInfo) -> CascadeGabor:
    """The system; ValueError for an order or a bank that cannot be, or with a single class."""
    return CascadeGabor(config, info)


def data_needs(config: CascadeGaborConfig) -> DataNeeds:
    """Single faces; each stage draws alike from the classes that are left."""
    return DataNeeds(balance=True)

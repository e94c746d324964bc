"""A plain classifier: one player, one stage, one term.

Shapes: B faces, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.losses.classification import class_weights
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
from trainer.systems.baseline import losses
from trainer.systems.baseline.config import BaselineConfig
from trainer.systems.baseline.nets import Classifier


class Baseline(System):
    """See the module."""

    def __init__(self, config: BaselineConfig, info: DatasetInfo) -> None:
        self.config = config
        self.class_weight_K = class_weights(info, config.class_power)
        self.classifier = Classifier(config.network, info)

    def players(self) -> tuple[Player, ...]:
        config = self.config
        return (
            Player(
                name="classifier",
                module=self.classifier,
                optimizer=config.optimizer,
                ema_halflife_images=config.ema_halflife_images,
            ),
        )

    def stages(self) -> tuple[Stage, ...]:
        turn = Turn(player="classifier", terms=("classification",), loss=self._learn)
        return (Stage(name="classifier", images=self.config.images, turns=(turn,)),)

    def _learn(self, ctx: StepContext) -> Mapping[str, Mean]:
        _, logits_BK = self.classifier(ctx.batch.faces_BCHW, ctx.noise)
        return losses.terms(logits_BK, ctx.batch, self.class_weight_K, self.config)

    def predict(self, batch: FaceBatch) -> Prediction:
        """Logits, and the features that they are read from."""
        features_BD, logits_BK = self.classifier(batch.faces_BCHW)
        return Prediction(logits_BK=logits_BK, features_BD=features_BD)


def build(config: BaselineConfig, info: DatasetInfo) -> Baseline:
    """The system; ValueError where the faces are too small for the network."""
    return Baseline(config, info)


def data_needs(config: BaselineConfig) -> DataNeeds:
    """Single faces."""
    return DataNeeds(balance=config.balance)

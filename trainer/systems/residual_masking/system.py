"""The Residual Masking Network: one player, one stage, one term.

Source: Pham, Vu, Tran, ICPR 2020, and the authors' release. Shapes: B faces, C channels, H height,
W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

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
from trainer.systems.residual_masking import losses
from trainer.systems.residual_masking.config import ResidualMaskingConfig
from trainer.systems.residual_masking.nets import MaskedResNet


class ResidualMasking(System):
    """See the module."""

    def __init__(self, config: ResidualMaskingConfig, info: DatasetInfo) -> None:
        self.config = config
        self.class_weight_K = class_weights(info, config.class_power)
        self.network = MaskedResNet(config.network, config.gates, info)

    def players(self) -> tuple[Player, ...]:
        return (Player(name="network", module=self.network, optimizer=self.config.optimizer),)

    def stages(self) -> tuple[Stage, ...]:
        turn = Turn(player="network", terms=("classification",), loss=self._learn)
        return (Stage(name="classification", images=self.config.images, turns=(turn,)),)

    def gates(self) -> Mapping[str, Tensor]:
        """How far each mask is open: the mean over places of its largest channel."""
        return self.network.openings()

    def _learn(self, ctx: StepContext) -> Mapping[str, Mean]:
        _, logits_BK = self.network(ctx.batch.faces_BCHW, ctx.noise)
        return losses.terms(logits_BK, ctx.batch, self.class_weight_K, self.config)

    def predict(self, batch: FaceBatch) -> Prediction:
        """Logits, the features that they are read from, and the masks as maps."""
        features_BD, logits_BK = self.network(batch.faces_BCHW)
        masks = self.network.seen_masks()
        return Prediction(logits_BK=logits_BK, features_BD=features_BD, maps=masks)


def build(config: ResidualMaskingConfig, info: DatasetInfo) -> ResidualMasking:
    """The system; ValueError where a mask cannot halve the maps evenly."""
    return ResidualMasking(config, info)


def data_needs(config: ResidualMaskingConfig) -> DataNeeds:
    """Single faces."""
    return DataNeeds()

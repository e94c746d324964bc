"""The attentive hybrid architecture: a whole face, its regions, and what the regions are together.

Source: Weng, Yang, Tan, Lei, ICPR 2020 (abstract). Shapes: B faces, C channels, N regions, S side
of a region, h and w sides of a map, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import masked_mean
from trainer.nets.parts import cut_parts
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
from trainer.systems.attentive_hybrid.config import HybridConfig
from trainer.systems.attentive_hybrid.nets import HybridNetwork, region_centres

TERMS = ("global_class", "local_class", "integrated_class", "fused_class")


class AttentiveHybrid(System):
    """One player, one stage, a term for each branch and for the fusion."""

    def __init__(self, config: HybridConfig, info: DatasetInfo) -> None:
        self.config, self.info = config, info
        self.network = HybridNetwork(config.network, config.gates, info)
        self.openings: dict[str, Tensor] = {}

    def players(self) -> tuple[Player, ...]:
        return (Player(name="network", module=self.network, optimizer=self.config.optimizer),)

    def stages(self) -> tuple[Stage, ...]:
        turn = Turn(player="network", terms=TERMS, loss=self._loss)
        return (Stage(name="expressions", images=self.config.images, turns=(turn,)),)

    def gates(self) -> Mapping[str, Tensor]:
        """The largest share that a place, or a region, had in the last training batch."""
        return self.openings

    def _loss(self, ctx: StepContext) -> Mapping[str, Tensor | Mean]:
        batch = ctx.batch
        logits, places_Bhw, regions_BN = self._read(batch)
        self.openings = {
            "place": places_Bhw.detach().flatten(1).amax(1).mean(),
            "region": regions_BN.detach().amax(1).mean(),
        }
        return {
            name: masked_mean(
                functional.cross_entropy(logits[name], batch.expression_B, reduction="none")
            )
            for name in TERMS
            if name in ctx.wanted
        }

    def _read(self, batch: FaceBatch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        config = self.config.network
        by_landmarks = config.regions == "landmarks"
        landmarks_BL3 = batch.landmarks_BL3 if by_landmarks else None
        centres_BN2 = region_centres(landmarks_BL3, batch.faces_BCHW)
        regions_BNCSS = cut_parts(
            batch.faces_BCHW, centres_BN2, config.region_share, config.region_side
        )
        return self.network(batch.faces_BCHW, regions_BNCSS)

    def predict(self, batch: FaceBatch) -> Prediction:
        """The fusion's logits; where the global branch looks, and which regions count."""
        logits, places_Bhw, regions_BN = self._read(batch)
        peak_B11 = places_Bhw.flatten(1).amax(1).view(-1, 1, 1).clamp(min=1e-9)
        maps = {"attention": places_Bhw / peak_B11, "regions": regions_BN}
        return Prediction(logits_BK=logits["fused_class"], maps=maps)


def build(config: HybridConfig, info: DatasetInfo) -> AttentiveHybrid:
    """The system for these data."""
    return AttentiveHybrid(config, info)


def data_needs(config: HybridConfig) -> DataNeeds:
    """Single faces; with their landmarks, where regions stand there."""
    by_landmarks = config.network.regions == "landmarks"
    return DataNeeds(fields=("landmarks",) if by_landmarks else ())

"""OADN: the attention branch reads visible parts, the region branch every block by itself.

Source: Ding, Zhou, Chellappa, IJCB 2020 (arXiv 2005.06040). Shapes: B faces, C channels, H height,
W width, D features, h and w sides of the map F, P = 24 points, N blocks, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import wanted
from trainer.losses.adversarial import masked_mean
from trainer.nets.cover import block_masks, covered
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
from trainer.systems.oadn.config import OadnConfig, Weights
from trainer.systems.oadn.landmarks import points_24
from trainer.systems.oadn.nets import OadnNetwork, attended, attention_maps, visible

TERMS = ("attention", "region", "whole")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reading:
    """What each head says, [B, 1, K] or, of the regions, [B, N, K].

    Where the attention branch reads, also its maps [B, P, h, w] and which points are shown [B, P].
    """

    logits: Mapping[str, Tensor]
    maps_BPhw: Tensor | None = None
    shown_BP: Tensor | None = None


class Oadn(System):
    """One player, one stage."""

    def __init__(self, config: OadnConfig, info: DatasetInfo) -> None:
        self.config, self.info = config, info
        self.heads = _heads(config)
        if config.fusion == "regions" and "region" not in self.heads:
            raise ValueError("oadn: system.fusion regions needs system.weights.region above 0")
        self.network = OadnNetwork(config.network, info, self.heads)

    def players(self) -> tuple[Player, ...]:
        return (Player(name="network", module=self.network, optimizer=self.config.optimizer),)

    def stages(self) -> tuple[Stage, ...]:
        turn = Turn(player="network", terms=TERMS, loss=self._loss)
        return (Stage(name="expressions", images=self.config.images, turns=(turn,)),)

    def gates(self) -> Mapping[str, Tensor]:
        """The share of points that the last training batch showed."""
        return {"visible": self.network.shown} if "attention" in self.heads else {}

    def _loss(self, ctx: StepContext) -> Mapping[str, Tensor | Mean]:
        batch = self._hidden(ctx)
        reading = self._read(batch, ctx.wanted)
        if reading.shown_BP is not None:
            self.network.shown.copy_(reading.shown_BP.float().mean())
        terms: dict[str, Tensor | Mean] = {}
        for name, logits_BNK in reading.logits.items():
            target_BN = batch.expression_B.unsqueeze(1).expand(logits_BNK.shape[:2])
            loss_BN = functional.cross_entropy(
                logits_BNK.transpose(1, 2), target_BN, reduction="none"
            )
            terms[name] = masked_mean(loss_BN.sum(1))
        return terms

    def _hidden(self, ctx: StepContext) -> FaceBatch:
        """The batch with blocks over some faces, and what lies below them unseen."""
        config, batch = self.config.occlusion, ctx.batch
        if not config.probability:
            return batch
        draw_B4 = ctx.noise("occlusion", (len(batch), 4), uniform=True) * 0.5 + 0.5
        side = batch.faces_BCHW.shape[-1]
        mask_BHW = block_masks(draw_B4[:, 1:3], side, config.size)
        mask_BHW = mask_BHW & (draw_B4[:, 0] < config.probability).view(-1, 1, 1)
        return covered(batch, mask_BHW, draw_B4[:, 3] * 2 - 1)

    def _read(self, batch: FaceBatch, heads: frozenset[str]) -> Reading:
        """What those heads say, in one pass of the trunk."""
        features_BDhw = self.network.features(batch.faces_BCHW)
        found: dict[str, Tensor] = {}
        maps_BPhw = shown_BP = None
        if "attention" in heads and self.network.attention is not None:
            maps_BPhw, shown_BP = self._maps(batch, features_BDhw)
            pooled_BD = attended(features_BDhw, maps_BPhw, self.config.gates.pooling)
            found["attention"] = self.network.attention(pooled_BD).unsqueeze(1)
        if "region" in heads and self.network.region is not None:
            found["region"] = self.network.region(features_BDhw)
        if "whole" in heads and self.network.whole is not None:
            found["whole"] = self.network.whole(features_BDhw.mean((2, 3))).unsqueeze(1)
        return Reading(logits=found, maps_BPhw=maps_BPhw, shown_BP=shown_BP)

    def _maps(self, batch: FaceBatch, features_BDhw: Tensor) -> tuple[Tensor, Tensor]:
        """The attention maps [B, P, h, w], and which points are shown [B, P]."""
        gates, side = self.config.gates, batch.faces_BCHW.shape[-1]
        landmarks_BL3 = batch.landmarks_BL3
        if landmarks_BL3 is None:
            count = batch.faces_BCHW.shape[0]
            landmarks_BL3 = batch.faces_BCHW.new_full((count, 5, 3), torch.nan)
        points_BP3 = points_24(landmarks_BL3.float(), side)
        shown_BP = visible(points_BP3, gates)
        size = (features_BDhw.shape[2], features_BDhw.shape[3])
        return attention_maps(points_BP3, shown_BP, gates.sigma, side, size), shown_BP

    def predict(self, batch: FaceBatch) -> Prediction:
        """The mean of the heads' logits (all, or the regions'); the largest of the attention maps.

        A face of which no point is shown, as without landmarks, is read by the other heads alone,
        where there are any.
        """
        reading = self._read(batch, self.heads)
        maps_BPhw = reading.maps_BPhw
        maps = {} if maps_BPhw is None else {"attention": maps_BPhw.amax(1)}
        return Prediction(logits_BK=self._fused(reading), maps=maps)

    def _fused(self, reading: Reading) -> Tensor:
        """The answer [B, K]: the mean of the logits that count."""
        logits, shown_BP = reading.logits, reading.shown_BP
        if self.config.fusion == "regions":
            return logits["region"].mean(1)
        logits_BK = torch.cat(list(logits.values()), dim=1).mean(1)
        others = [logits_BNK for name, logits_BNK in logits.items() if name != "attention"]
        if shown_BP is None or not others:
            return logits_BK
        blind_BK = torch.cat(others, dim=1).mean(1)
        return torch.where(shown_BP.any(1, keepdim=True), logits_BK, blind_BK)


def _heads(config: OadnConfig) -> frozenset[str]:
    """The terms that are ever wanted; ValueError where there is none."""
    weights = {item.name: getattr(config.weights, item.name) for item in fields(Weights)}
    heads = wanted(weights)
    if not heads:
        raise ValueError("oadn: every weight is 0; set one of " + ", ".join(TERMS))
    return heads


def build(config: OadnConfig, info: DatasetInfo) -> Oadn:
    """The system for these data; ValueError where no head is left."""
    return Oadn(config, info)


def data_needs(config: OadnConfig) -> DataNeeds:
    """Faces with landmarks, where the attention branch plays."""
    attends = "attention" in _heads(config)
    return DataNeeds(fields=("landmarks",) if attends else ())

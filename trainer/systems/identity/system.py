"""A face-identity network, trained to tell a corpus' training subjects apart.

Shapes: B faces, C channels, H height, W width, D features, S subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo, FaceBatch, Prediction
from trainer.config import knob, weight
from trainer.losses.adversarial import masked_mean
from trainer.nets.dropout import dropout
from trainer.nets.identity_source import Shape, build_identity, num_embedding_features
from trainer.schedules import Schedule
from trainer.system import (
    DataNeeds,
    Mean,
    OptimizerConfig,
    Player,
    Stage,
    StepContext,
    System,
    Turn,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The one term."""

    subject: Schedule = weight(1.0, doc="cross-entropy over the training subjects")


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityConfig:
    """All settings of the system.

    `head` linear is the papers' softmax over subjects; cosine compares unit vectors, scaled by
    `scale`, and asks the own subject for `margin` more (Wang et al., CosFace, CVPR 2018).
    """

    shape: Shape = knob("lightcnn9", doc="the network")
    width: float = knob(1.0, bounds=(0.05, 4.0), doc="factor on its channels; 1 is as published")
    head: Literal["linear", "cosine"] = knob("linear", doc="how features become subjects")
    scale: float = knob(24.0, bounds=(1.0, 128.0), doc="of the cosine head", log=True)
    margin: float = knob(0.2, bounds=(0.0, 0.8), doc="of the cosine head")
    dropout: float = knob(0.0, bounds=(0.0, 0.9), doc="share of features hidden before the head")
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    images: int = knob(100_000, bounds=(1, 1e9), doc="images of the only stage")


class SubjectHead(nn.Module):
    """One direction of feature space per training subject."""

    def __init__(self, num_features: int, num_subjects: int, bias: bool) -> None:
        super().__init__()
        self.weight_SD = nn.Parameter(torch.randn(num_subjects, num_features) * num_features**-0.5)
        self.bias_S = nn.Parameter(torch.zeros(num_subjects)) if bias else None

    def forward(self, features_BD: Tensor) -> Tensor:
        """Logits [B, S]; without a bias, cosines."""
        if self.bias_S is None:
            unit_BD = functional.normalize(features_BD, dim=1)
            return functional.linear(unit_BD, functional.normalize(self.weight_SD, dim=1))
        return functional.linear(features_BD, self.weight_SD, self.bias_S)


class IdentityNetwork(nn.Module):
    """The backbone, which is kept, and the head, which only training needs."""

    def __init__(self, config: IdentityConfig, info: DatasetInfo) -> None:
        super().__init__()
        self.backbone = build_identity(config.shape, image_size=info.image_size, width=config.width)
        num_features = num_embedding_features(config.shape, config.width)
        self.head = SubjectHead(num_features, info.subjects, bias=config.head == "linear")

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """Identity features [B, D], not normalised."""
        return self.backbone(faces_BCHW)


class IdentitySystem(System):
    """One player, one stage, one term."""

    def __init__(self, config: IdentityConfig, info: DatasetInfo) -> None:
        if info.subjects < 2:
            raise ValueError(
                f"identity: the training faces have {info.subjects} known subjects; at least 2 "
                "are needed"
            )
        self.config = config
        self.network, self.image_size = IdentityNetwork(config, info), info.image_size

    def players(self) -> tuple[Player, ...]:
        return (Player(name="network", module=self.network, optimizer=self.config.optimizer),)

    def stages(self) -> tuple[Stage, ...]:
        turn = Turn(player="network", terms=("subject",), loss=self._loss)
        return (Stage(name="subjects", images=self.config.images, turns=(turn,)),)

    def _loss(self, ctx: StepContext) -> Mapping[str, Tensor | Mean]:
        batch, config = ctx.batch, self.config
        features_BD = self.network(batch.faces_BCHW)
        features_BD = dropout(features_BD, config.dropout, "dropout", ctx.noise)
        known_B = batch.subject_B >= 0
        subject_B = batch.subject_B.clamp(min=0)
        logits_BS = self.network.head(features_BD)
        if config.head == "cosine":
            own_BS = functional.one_hot(subject_B, logits_BS.shape[1])
            logits_BS = config.scale * (logits_BS - config.margin * own_BS)
        loss_B = functional.cross_entropy(logits_BS, subject_B, reduction="none")
        return {"subject": masked_mean(loss_B, known_B)}

    def face_network(self) -> tuple[nn.Module, int]:
        """The backbone and the side of the faces that it sees, for those who need an identity."""
        return self.network.backbone, self.image_size

    def predict(self, batch: FaceBatch) -> Prediction:
        """Unit identity features, summed over the face and its mirror image."""
        faces_BCHW = batch.faces_BCHW
        features_BD = self.network(faces_BCHW) + self.network(faces_BCHW.flip(-1))
        return Prediction(features_BD=functional.normalize(features_BD, dim=1))


def build(config: IdentityConfig, info: DatasetInfo) -> IdentitySystem:
    """The system for these data; ValueError with fewer than two known training subjects."""
    return IdentitySystem(config, info)


def data_needs(config: IdentityConfig) -> DataNeeds:
    """Single faces with their subjects."""
    return DataNeeds()

"""Teacher and students: one architecture, an embedding, a linear classifier.

Shapes: B faces, C channels, H height, W width, D features of an embedding, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets.trunk import PlainTrunk
from trainer.nets.vggf import VggF
from trainer.nets.vggface import VggFace
from trainer.systems.occlusion_distillation.config import NetworkConfig


class PlainEmbedding(nn.Module):
    """A plain trunk, the average of its map in a grid of 3 x 3, one dense layer."""

    GRID = 3

    def __init__(self, config: NetworkConfig, info: DatasetInfo) -> None:
        super().__init__()
        self.trunk = PlainTrunk(info.channels, config.widths)
        self.num_features = config.embedding_features
        self.dense = nn.Linear(self.trunk.num_features * self.GRID**2, self.num_features)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The embedding [B, D]."""
        pooled_BDgg = functional.adaptive_avg_pool2d(self.trunk(faces_BCHW), self.GRID)
        return torch.relu(self.dense(pooled_BDgg.flatten(1)))


class Recogniser(nn.Module):
    """An embedding and, where it `reads`, what it says of the classes."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo, *, reads: bool = True) -> None:
        super().__init__()
        self.trunk: nn.Module
        if config.shape == "vggface":
            self.trunk = VggFace(image_size=info.image_size, width=config.width)
        elif config.shape == "vggf":
            self.trunk = VggF(image_size=info.image_size, width=config.width)
        else:
            self.trunk = PlainEmbedding(config, info)
        assert isinstance(self.trunk.num_features, int)
        self.num_features: int = self.trunk.num_features
        self.classifier = nn.Linear(self.num_features, len(info.classes)) if reads else None

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The embedding [B, D]."""
        return self.trunk(faces_BCHW)

    def read(self, embedding_BD: Tensor) -> Tensor:
        """The logits [B, K] of an embedding."""
        assert self.classifier is not None, "only a recogniser that reads knows classes"
        return self.classifier(embedding_BD)


class Joined(nn.Module):
    """A linear classifier on the embeddings of all students, side by side, each of unit length."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(num_features, num_classes)
        self.scale = nn.Parameter(torch.full((1,), 10.0))

    def forward(self, embeddings: list[Tensor]) -> Tensor:
        """Logits [B, K] of embeddings [B, D] each."""
        unit = [functional.normalize(embedding_BD, dim=1) for embedding_BD in embeddings]
        return self.classifier(self.scale * torch.cat(unit, dim=1))

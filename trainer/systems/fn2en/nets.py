"""The expression network, and the face network as a classifier.

Shapes: B faces, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from trainer.nets.dropout import Noise, dropout
from trainer.nets.identity_source import FrozenIdentity, resized
from trainer.nets.norm import BatchNorm2d
from trainer.systems.fn2en.config import NetworkConfig


class ExpressionNetwork(nn.Module):
    """Convolutions that stage 1 trains, and dense layers that join in stage 2.

    With the published widths, 224 px faces and 512 channels to meet: eight weight layers and
    10.6 M parameters (the survey of Li and Deng says 8 and 11 M).
    """

    def __init__(
        self,
        config: NetworkConfig,
        image_channels: int,
        image_size: int,
        response_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, side = image_channels, image_size
        for after in config.channels:
            layers.append(nn.Conv2d(before, after, 3, padding=1, bias=not config.batch_norm))
            layers += [BatchNorm2d(after)] if config.batch_norm else []
            layers += [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            before, side = after, (side + 1) // 2
        layers.append(nn.Conv2d(before, response_channels, 1))
        self.convolutions = nn.Sequential(*layers)
        self.response_side = side
        self.norm = BatchNorm2d(response_channels) if config.response_norm else nn.Identity()
        self.hidden = config.dropout
        self.dense = nn.Linear(response_channels * side**2, config.dense_features)
        self.head = nn.Linear(config.dense_features, num_classes)

    def respond(self, faces_BCHW: Tensor) -> Tensor:
        """What stage 1 compares with the face network: [B, C, S, S]."""
        return self.convolutions(faces_BCHW)

    def classify(self, response_BCHW: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Features [B, D] and logits [B, K] of a response."""
        seen_BD = torch.relu(self.norm(response_BCHW)).flatten(1)
        features_BD = torch.relu(self.dense(seen_BD))
        return features_BD, self.head(dropout(features_BD, self.hidden, "head", noise))


class FaceClassifier(nn.Module):
    """A copy of the face network that learns, with its embedding as the features."""

    def __init__(self, face: FrozenIdentity, num_classes: int, hidden: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(face.network)
        self.image_size, self.hidden = face.image_size, hidden
        with torch.no_grad():
            num_features = face.embed(torch.zeros(1, 1, face.image_size, face.image_size)).shape[1]
        self.head = nn.Linear(num_features, num_classes)

    def respond(self, faces_BCHW: Tensor) -> Tensor:
        """The embedding [B, D], not normalised."""
        return self.network.embed(resized(faces_BCHW, self.image_size))  # type: ignore[operator]

    def classify(self, response_BD: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Features [B, D] and logits [B, K]."""
        return response_BD, self.head(dropout(response_BD, self.hidden, "head", noise))


def response_shape(face: FrozenIdentity, image_size: int) -> tuple[int, int]:
    """Channels and side of the face network's last pooled map."""
    with torch.no_grad():
        response = face.pooled(torch.zeros(1, 1, image_size, image_size))
    return response.shape[1], response.shape[2]

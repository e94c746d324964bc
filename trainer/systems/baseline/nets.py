"""The plain networks: each maps faces to features, and one linear layer maps these to classes.

Shapes: B faces, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data_service.schema import DatasetInfo
from trainer.nets.convolutions import Convolutions
from trainer.nets.dropout import Noise, dropout
from trainer.nets.norm import BatchNorm2d
from trainer.nets.resnet import ResNet
from trainer.systems.baseline.config import NetworkConfig

VGG13_GROUPS = ((64, 2), (128, 2), (256, 3), (256, 3))
"""Channels and number of 3x3 convolutions of the four groups, at width 1."""

VGG13_DENSE = 1024
ALEXNET_CHANNELS = (64, 192, 384, 256, 256)
ALEXNET_DENSE = 4096


class AlexNetConvolutions(nn.Sequential):
    """Five convolutions and three maxima, in the one-tower form of Krizhevsky (2014).

    The small stem has 5x5 at stride 2 in place of 11x11 at stride 4, and 2x2 maxima.
    """

    def __init__(self, num_in: int, channels: list[int], *, small: bool, batch_norm: bool) -> None:
        kernels = (5 if small else 11, 5, 3, 3, 3)
        layers: list[nn.Module] = []
        for index, (num_out, kernel) in enumerate(zip(channels, kernels, strict=True)):
            stride, padding = (2 if small else 4, 2) if index == 0 else (1, kernel // 2)
            bias = not batch_norm
            layers.append(nn.Conv2d(num_in, num_out, kernel, stride, padding, bias=bias))
            layers += [BatchNorm2d(num_out)] if batch_norm else []
            layers.append(nn.ReLU())
            if index in (0, 1, 4):
                layers.append(nn.MaxPool2d(2) if small else nn.MaxPool2d(3, 2))
            num_in = num_out
        super().__init__(*layers)


class DenseTrunk(nn.Module):
    """Convolutions, then two dense layers of `num_features` with ReLU (AlexNet, VGG-13)."""

    def __init__(
        self, convolutions: nn.Module, info: DatasetInfo, num_features: int, hidden: float
    ) -> None:
        super().__init__()
        self.convolutions, self.hidden, self.num_features = convolutions, hidden, num_features
        flat = _flat_features(convolutions, info)
        self.dense_1 = nn.Linear(flat, num_features)
        self.dense_2 = nn.Linear(num_features, num_features)

    def forward(self, faces_BCHW: Tensor, noise: Noise | None = None) -> Tensor:
        """Features [B, D]."""
        keyed = isinstance(self.convolutions, Convolutions)
        maps = self.convolutions(faces_BCHW, *([noise] if keyed else []))
        x = dropout(maps.flatten(1), self.hidden, "dense 1", noise)
        x = dropout(torch.relu(self.dense_1(x)), self.hidden, "dense 2", noise)
        return torch.relu(self.dense_2(x))


class AverageTrunk(nn.Module):
    """Convolutions and their global average (ResNet has its own; the plain small CNN)."""

    def __init__(self, convolutions: Convolutions, num_features: int) -> None:
        super().__init__()
        self.convolutions, self.num_features = convolutions, num_features

    def forward(self, faces_BCHW: Tensor, noise: Noise | None = None) -> Tensor:
        """Features [B, D]."""
        return self.convolutions(faces_BCHW, noise).mean((2, 3))


class ResNetTrunk(ResNet):
    """ResNet-18, which hides nothing on its way."""

    def forward(self, faces_BCHW: Tensor, noise: Noise | None = None) -> Tensor:
        """Features [B, D]."""
        return super().forward(faces_BCHW)


class Classifier(nn.Module):
    """A trunk, and a linear layer over its features."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo) -> None:
        super().__init__()
        self.hidden = config.dropout
        self.trunk = _trunk(config, info)
        self.head = nn.Linear(self.trunk.num_features, len(info.classes))

    def forward(self, faces_BCHW: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Features [B, D] and logits [B, K]; with noise, parts are hidden on the way."""
        features_BD = self.trunk(faces_BCHW, noise)
        return features_BD, self.head(dropout(features_BD, self.hidden, "head", noise))


def _trunk(config: NetworkConfig, info: DatasetInfo) -> DenseTrunk | AverageTrunk | ResNetTrunk:
    def scaled(count: int) -> int:
        return max(4, round(config.width * count))

    if config.shape == "resnet18":
        return ResNetTrunk("resnet18", info.channels, width=config.width, stem=config.stem)
    if config.shape == "alexnet":
        channels, small = [scaled(count) for count in ALEXNET_CHANNELS], config.stem == "small"
        convolutions: nn.Module = AlexNetConvolutions(
            info.channels, channels, small=small, batch_norm=config.batch_norm
        )
        return DenseTrunk(convolutions, info, scaled(ALEXNET_DENSE), config.dropout)
    plain = config.shape == "plain"
    published = tuple((count, 2) for count in config.plain_channels) if plain else VGG13_GROUPS
    groups = tuple((scaled(channels), count) for channels, count in published)
    convolutions = Convolutions(
        info.channels,
        groups,
        batch_norm=plain or config.batch_norm,
        hidden=config.conv_dropout,
        halve_last=not plain,
    )
    if plain:
        return AverageTrunk(convolutions, groups[-1][0])
    return DenseTrunk(convolutions, info, scaled(VGG13_DENSE), config.dropout)


def _flat_features(convolutions: nn.Module, info: DatasetInfo) -> int:
    """How many numbers the convolutions make of a face; ValueError where it is too small."""
    side, channels = info.image_size, info.channels
    for layer in convolutions.modules():
        if isinstance(layer, nn.Conv2d):
            (kernel, _), (stride, _), padding = layer.kernel_size, layer.stride, layer.padding[0]
            side, channels = (side + 2 * int(padding) - kernel) // stride + 1, layer.out_channels
        elif isinstance(layer, nn.MaxPool2d):
            side = (side - int(layer.kernel_size)) // int(layer.stride) + 1  # type: ignore[arg-type]
        if side < 1:
            raise ValueError(
                f"faces of {info.image_size} px are too small for the halvings of this network; "
                "set system.network.stem=small, or a larger data.image_size"
            )
    return channels * side**2

"""Masking blocks, and the ResNet that they stand in.

Shapes: B faces, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from data_service.schema import DatasetInfo
from trainer.nets.dropout import Noise, dropout
from trainer.nets.norm import BatchNorm2d
from trainer.nets.resnet import ResidualBlock, ResNet
from trainer.systems.residual_masking.config import GateConfig, NetworkConfig

STAGES = 4


def grown(num_in: int, num_out: int) -> nn.Sequential:
    """Twice the side by a transposed convolution."""
    convolution = nn.ConvTranspose2d(num_in, num_out, 2, stride=2)
    return nn.Sequential(convolution, BatchNorm2d(num_out), nn.ReLU())


class MaskingBlock(nn.Module):
    """x + x * M(x), with M a U-Net of residual blocks from C over 2C, 4C ... 2^depth C channels."""

    def __init__(
        self, num_channels: int, depth: int, activation: Literal["softmax", "sigmoid"]
    ) -> None:
        super().__init__()
        widths = [num_channels << level for level in range(depth + 1)]
        self.activation = activation
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.rises, self.pool = nn.ModuleList(), nn.MaxPool2d(2)
        for level in range(depth):
            self.encoder.append(ResidualBlock(widths[level], widths[level + 1], projects=True))
        for level in range(depth, 1, -1):
            self.rises.append(grown(widths[level], widths[level - 1]))
            self.decoder.append(ResidualBlock(widths[level], widths[level - 1], projects=True))
        self.last = ResidualBlock(widths[1], widths[0], projects=True)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.mask_BCHW: Tensor | None = None
        self.opening: Tensor
        self.register_buffer("opening", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`; the mask is kept, detached, to be looked at."""
        maps, inner = [], x
        for level, block in enumerate(self.encoder):
            inner = block(self.pool(inner) if level else inner)
            maps.append(inner)
        for skip, rise, block in zip(maps[-2::-1], self.rises, self.decoder, strict=True):
            inner = block(torch.cat([rise(inner), skip], dim=1))
        raw = self.last(inner)
        mask = raw.softmax(dim=1) if self.activation == "softmax" else raw.sigmoid()
        self.mask_BCHW = mask.detach()
        if self.training:
            self.opening.copy_(mask.detach().amax(1).mean())
        return x + x * mask


class MaskedResNet(nn.Module):
    """A ResNet with a masking block after each stage whose gate is on."""

    def __init__(self, config: NetworkConfig, gates: GateConfig, info: DatasetInfo) -> None:
        super().__init__()
        self.hidden = config.dropout
        self.trunk = ResNet(config.shape, info.channels, width=config.width, stem=config.stem)
        self.masks, side = nn.ModuleDict(), info.image_size
        side = (side + 3) // 4 if config.stem == "published" else side
        for stage in range(1, STAGES + 1):
            depth, channels = config.mask_depths[stage - 1], self.trunk.channels[stage - 1]
            if getattr(gates, f"stage_{stage}"):
                _check(stage, side, depth)
                self.masks[f"stage_{stage}"] = MaskingBlock(channels, depth, gates.activation)
            side = (side + 1) // 2
        self.head = nn.Linear(self.trunk.num_features, len(info.classes))

    def forward(self, faces_BCHW: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Features [B, D] and logits [B, K]; with noise, a part of the features is hidden."""
        x = self.trunk.stem(faces_BCHW)
        for index, stage in enumerate(self.trunk.stages, start=1):
            x = stage(x)
            if f"stage_{index}" in self.masks:
                x = self.masks[f"stage_{index}"](x)
        features_BD = x.mean((2, 3))
        return features_BD, self.head(dropout(features_BD, self.hidden, "head", noise))

    def seen_masks(self) -> dict[str, Tensor]:
        """The masks of the last forward [B, 1, H, W]: the largest of each place's channels."""
        masks = {name: block.mask_BCHW for name, block in self._blocks().items()}
        return {name: m.amax(1, keepdim=True) for name, m in masks.items() if m is not None}

    def openings(self) -> dict[str, Tensor]:
        """The mean of each mask's largest channels in the last training forward."""
        return {name: block.opening for name, block in self._blocks().items()}

    def _blocks(self) -> dict[str, MaskingBlock]:
        return {name: b for name, b in self.masks.items() if isinstance(b, MaskingBlock)}


def _check(stage: int, side: int, depth: int) -> None:
    """ValueError where a U-Net of that depth cannot halve the maps evenly."""
    if depth < 1 or side % (1 << (depth - 1)):
        raise ValueError(
            f"the maps of stage {stage} have a side of {side}, which a mask of depth {depth} "
            f"cannot halve {depth - 1} times; set data.image_size, system.network.stem or "
            "system.network.mask_depths"
        )

"""TER-GAN's networks: two encoders, one decoder, what reads the codes.

Shapes: B faces, C channels, H height, W width, E expression code, I identity code, D channels of
the last map, K classes, S subjects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets.blocks import ConditionalTransform
from trainer.systems.ter_gan.config import NetworkConfig

_RESIDUAL_STD = 0.02


class Encoder(nn.Module):
    """Strided convolutions with instance norm, and a dense layer: maps and a code."""

    def __init__(self, num_in: int, widths: Sequence[int], image_size: int, num_code: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for num_out in widths:
            self.convs.append(nn.Conv2d(num_in, num_out, 4, stride=2, padding=1))
            num_in = num_out
        side = image_size // 2 ** len(widths)
        self.code = nn.Linear(num_in * side * side, num_code)

    def forward(self, faces_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The code, and the maps on the way to it, fine to coarse."""
        x, maps = faces_BCHW, []
        for index, conv in enumerate(self.convs):
            x = conv(x)
            x = functional.leaky_relu(functional.instance_norm(x) if index else x, 0.2)
            maps.append(x)
        return self.code(x.flatten(1)), maps


class Decoder(nn.Module):
    """The target's maps under the source's expression code, doubled back to a face."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo) -> None:
        super().__init__()
        self.residual, self.skips = config.output == "residual", config.skips
        widths = list(config.encoder_channels[::-1])
        side = info.image_size // 2 ** len(widths)
        self.enter = ConditionalTransform(
            widths[0], config.expression_features, residual=True, side=side, noisy=False
        )
        self.convs, self.styles = nn.ModuleList(), nn.ModuleList()
        num_in = widths[0]
        for level, num_out in enumerate([*widths[1:], widths[-1]]):
            beside = widths[level + 1] if self.skips and level + 1 < len(widths) else 0
            side *= 2
            self.convs.append(nn.Conv2d(num_in + beside, num_out, 3, padding=1))
            self.styles.append(
                ConditionalTransform(
                    num_out, config.expression_features, residual=True, side=side, noisy=False
                )
            )
            num_in = num_out
        self.draw = nn.Conv2d(num_in, info.channels, 3, padding=1)
        if self.residual:
            nn.init.normal_(self.draw.weight, std=_RESIDUAL_STD)

    def forward(self, faces_BCHW: Tensor, maps: Sequence[Tensor], code_BE: Tensor) -> Tensor:
        """The target's faces [B, C, H, W] with the expressions of the codes."""
        x = functional.leaky_relu(self.enter(maps[-1], code_BE), 0.2)
        for level, (conv, style) in enumerate(zip(self.convs, self.styles, strict=True)):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            if self.skips and level + 1 < len(maps):
                x = torch.cat([x, maps[-2 - level]], dim=1)
            x = functional.leaky_relu(style(conv(x), code_BE), 0.2)
        drawn_BCHW = self.draw(x)
        return faces_BCHW + drawn_BCHW if self.residual else torch.tanh(drawn_BCHW)


class Generator(nn.Module):
    """Both encoders, the decoder, the classifiers on the codes, and a mean code for each class."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo, plays: frozenset[str]) -> None:
        super().__init__()
        widths, side = config.encoder_channels, info.image_size
        num_expression, num_identity = config.expression_features, config.identity_features
        self.expression = Encoder(info.channels, widths, side, num_expression)
        self.identity = Encoder(info.channels, widths, side, num_identity)
        self.decoder = Decoder(config, info)
        self.classes = nn.Linear(num_expression, len(info.classes))
        self.subjects = None
        if "identity_class" in plays:
            self.subjects = nn.Linear(num_identity, info.subjects)
        self.prototypes_KE = nn.Parameter(torch.zeros(len(info.classes), num_expression))

    def transfer(self, target_BCHW: Tensor, code_BE: Tensor) -> Tensor:
        """The target's faces with the expressions of the codes."""
        return self.decoder(target_BCHW, self.identity(target_BCHW)[1], code_BE)

"""A generator whose decoder gives an image at several sizes, and the critics of each size.

Shapes: B faces, C channels, H height, W width, K conditions (classes, and yaw where it is one).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.blocks import BasicBlock, ConditionMap, ConvNorm, PatchCritic, normalisation
from trainer.systems.multilevel_critic.config import NetworkConfig

Images = Mapping[int, Tensor]
"""Faces [B, C, side, side] by side."""


def shrunk(faces_BCHW: Tensor, side: int) -> Tensor:
    """Faces whose pixels are means of blocks of pixels; `side` divides theirs."""
    factor = faces_BCHW.shape[-1] // side
    return faces_BCHW if factor == 1 else functional.avg_pool2d(faces_BCHW, factor)


class Generator(nn.Module):
    """U-shaped; the condition enters place by place at the lowest side and below the full one."""

    def __init__(
        self,
        config: NetworkConfig,
        image_channels: int,
        image_size: int,
        num_conditions: int,
        levels: tuple[int, ...],
    ) -> None:
        super().__init__()
        widths, norm = config.channels, config.norm
        self.residual = config.output == "residual"
        self.stem = ConvNorm(image_channels, widths[0], norm, slope=0.2)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        self.places, self.heads = nn.ModuleList(), nn.ModuleDict()
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
            self.downs.append(
                nn.Sequential(convolution, normalisation(norm, after), nn.LeakyReLU(0.2))
            )
        side = image_size >> len(self.downs)
        self.places.append(ConditionMap(num_conditions, widths[-1], side, std=0.5))
        blocks = [BasicBlock(widths[-1], widths[-1], norm) for _ in range(config.num_blocks)]
        self.blocks = nn.Sequential(*blocks)
        for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
            side *= 2
            self.ups.append(ConvNorm(before + after, after, norm))
            if side < image_size:
                self.places.append(ConditionMap(num_conditions, after, side, std=0.5))
            if side in levels or side == image_size:
                self.heads[str(side)] = nn.Conv2d(after, image_channels, 3, padding=1)

    def forward(self, faces_BCHW: Tensor, condition_BK: Tensor) -> dict[int, Tensor]:
        """An image for every level, and the final one, by side."""
        x, skips = self.stem(faces_BCHW), []
        for down in self.downs:
            skips.append(x)
            x = down(x)
        x = self.blocks(x + self.places[0](condition_BK))
        images: dict[int, Tensor] = {}
        for index, (up, skip) in enumerate(zip(self.ups, reversed(skips), strict=True)):
            grown = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = up(torch.cat([grown, skip], dim=1))
            if index + 1 < len(self.places):
                x = x + self.places[index + 1](condition_BK)
            side = x.shape[-1]
            if str(side) in self.heads:
                images[side] = self._draw(self.heads[str(side)](x), faces_BCHW)
        return images

    def _draw(self, drawn_BCHW: Tensor, faces_BCHW: Tensor) -> Tensor:
        if self.residual:
            return shrunk(faces_BCHW, drawn_BCHW.shape[-1]) + drawn_BCHW
        return torch.tanh(drawn_BCHW)


class VariationCritic(nn.Module):
    """D_V: embeds two faces and judges the difference, which is what the expression changed."""

    def __init__(self, image_channels: int, num_conditions: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = image_channels
        for after in channels[:-1]:
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = after
        self.embed = nn.Sequential(*layers)
        self.judge = PatchCritic(before, num_conditions, channels[-1:])

    def forward(self, after_BCHW: Tensor, before_BCHW: Tensor, condition_BK: Tensor) -> Tensor:
        """Scores of f(after) - f(before)."""
        embedded = self.embed(torch.cat([after_BCHW, before_BCHW]))
        after, before = embedded.chunk(2)
        return self.judge(after - before, condition_BK)


class Critics(nn.Module):
    """The final discriminator, and for each level a photo- and a variation-realistic critic."""

    def __init__(
        self,
        config: NetworkConfig,
        image_channels: int,
        num_conditions: int,
        levels: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.num_conditions, self.levels = num_conditions, levels
        self.final = PatchCritic(image_channels, num_conditions, config.critic_channels)
        channels = config.level_channels
        self.photo = nn.ModuleDict(
            {str(side): PatchCritic(image_channels, num_conditions, channels) for side in levels}
        )
        self.variation = nn.ModuleDict(
            {
                str(side): VariationCritic(image_channels, num_conditions, channels)
                for side in levels
            }
        )

    def seen(self, condition_BK: Tensor) -> Tensor:
        """What the critics see of the condition: all or nothing."""
        return condition_BK[:, : self.num_conditions]

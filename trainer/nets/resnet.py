"""The residual networks of He, Zhang, Ren, Sun (CVPR 2016): ResNet-18, 34 and 50.

Batch statistics cover all ranks (`nets.norm`). Shapes: B faces, C channels, H height, W width,
D features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainer.nets.norm import BatchNorm2d

Stem = Literal["published", "small"]
LAYERS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
CHANNELS = (64, 128, 256, 512)
"""Channels of the four stages, at width 1."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and the input added before the last ReLU.

    The shortcut is a 1x1 convolution with batch norm where the shape changes, or where `projects`
    asks for it. The last norm starts at zero, so that a block starts as its shortcut (Goyal et al.,
    2017).
    """

    def __init__(
        self, num_in: int, num_out: int, stride: int = 1, *, projects: bool = False
    ) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.norm_1 = BatchNorm2d(num_out)
        self.conv_2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.norm_2 = BatchNorm2d(num_out)
        assert self.norm_2.weight is not None
        nn.init.zeros_(self.norm_2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if projects or stride != 1 or num_in != num_out:
            convolution = nn.Conv2d(num_in, num_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, BatchNorm2d(num_out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, num_in, H, W] to [B, num_out, H / stride, W / stride]."""
        inner = torch.relu(self.norm_1(self.conv_1(x)))
        return torch.relu(self.norm_2(self.conv_2(inner)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm; its maps are four times as many (ResNet-50).

    The stride is the 3x3 convolution's; the last norm starts at zero.
    """

    EXPANSION = 4

    def __init__(self, num_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        num_out = width * self.EXPANSION
        self.conv_1 = nn.Conv2d(num_in, width, 1, bias=False)
        self.norm_1 = BatchNorm2d(width)
        self.conv_2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm_2 = BatchNorm2d(width)
        self.conv_3 = nn.Conv2d(width, num_out, 1, bias=False)
        self.norm_3 = BatchNorm2d(num_out)
        assert self.norm_3.weight is not None
        nn.init.zeros_(self.norm_3.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_in != num_out:
            convolution = nn.Conv2d(num_in, num_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, BatchNorm2d(num_out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, num_in, H, W] to [B, 4 width, H / stride, W / stride]."""
        inner = torch.relu(self.norm_1(self.conv_1(x)))
        inner = torch.relu(self.norm_2(self.conv_2(inner)))
        return torch.relu(self.norm_3(self.conv_3(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, four stages and a global average.

    The published stem (7x7 at stride 2, then 3x3 maxima at stride 2) quarters the side; the small
    one (3x3 at stride 1) leaves it, for faces below about 64 px. `last_stride` 1 leaves the last
    stage's maps as large as those before it.
    """

    def __init__(
        self,
        shape: str,
        image_channels: int,
        *,
        width: float = 1.0,
        stem: Stem = "published",
        last_stride: int = 2,
    ) -> None:
        super().__init__()
        channels = [max(4, round(width * count)) for count in CHANNELS]
        published = stem == "published"
        kernel, stride = (7, 2) if published else (3, 1)
        layers: list[nn.Module] = [
            nn.Conv2d(image_channels, channels[0], kernel, stride, kernel // 2, bias=False),
            BatchNorm2d(channels[0]),
            nn.ReLU(),
        ]
        self.stem = nn.Sequential(*layers, *([nn.MaxPool2d(3, 2, 1)] if published else []))
        kind = Bottleneck if shape == "resnet50" else ResidualBlock
        expansion = Bottleneck.EXPANSION if kind is Bottleneck else 1
        self.stages, before = nn.ModuleList(), channels[0]
        for index, (after, count) in enumerate(zip(channels, LAYERS[shape], strict=True)):
            stride = (1, 2, 2, last_stride)[index]
            blocks: list[nn.Module] = []
            for block in range(count):
                blocks.append(kind(before, after, 1 if block else stride))
                before = after * expansion
            self.stages.append(nn.Sequential(*blocks))
        self.channels = tuple(count * expansion for count in channels)
        self.num_features = before
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """Features [B, D] after the global average."""
        return self.last_map(faces_BCHW).mean((2, 3))

    def last_map(self, faces_BCHW: Tensor) -> Tensor:
        """The last stage's map, [B, D, h, w]."""
        x = self.stem(faces_BCHW)
        for stage in self.stages:
            x = stage(x)
        return x

"""A bank of Gabor filters, and the network behind it that takes one decision.

Shapes: B faces, C channels, H height, W width, N filters, M classes of a decision.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.convolutions import Convolutions
from trainer.nets.dropout import Noise, dropout
from trainer.nets.lightcnn import grey_from_faces
from trainer.systems.cascade_gabor.config import CascadeGaborConfig, GaborConfig

_BELL = 0.56
"""Width of the bell in wavelengths: one octave of bandwidth."""

_LEAST_ENERGY = 1e-6


def gabor_filters(config: GaborConfig) -> tuple[Tensor, Tensor]:
    """Even and odd filters [N, 1, size, size]: they ignore brightness, and have norm 1."""
    half = config.kernel_size // 2
    line = torch.arange(-half, half + 1, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    even, odd = [], []
    for scale in range(config.scales):
        length = config.wavelength * 2 ** (scale / 2)
        bell = torch.exp(-(x.square() + y.square()) / (2 * (_BELL * length) ** 2))
        for turn in range(config.orientations):
            angle = math.pi * turn / config.orientations
            phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / length
            wave = phase.cos()
            level = (bell * wave).sum() / bell.sum()
            even.append(bell * (wave - level))
            odd.append(bell * phase.sin())
    stacked = [torch.stack(filters) for filters in (even, odd)]
    unit = [f / f.flatten(1).norm(dim=1).view(-1, 1, 1) for f in stacked]
    return unit[0].unsqueeze(1), unit[1].unsqueeze(1)


class GaborBank(nn.Module):
    """Magnitudes of a face's response to every filter: where which edges are, in any light."""

    def __init__(self, config: GaborConfig) -> None:
        super().__init__()
        self.stride, self.padding = config.stride, config.kernel_size // 2
        self.even_N1SS: Tensor
        self.odd_N1SS: Tensor
        for name, filters in zip(("even_N1SS", "odd_N1SS"), gabor_filters(config), strict=True):
            if config.kind == "learned":
                self.register_parameter(name, nn.Parameter(filters))
            else:
                self.register_buffer(name, filters)
        self.num_filters = len(self.even_N1SS)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """[B, N, H / stride, W / stride]."""
        grey_B1HW = grey_from_faces(faces_BCHW)
        pad = [self.padding] * 4
        framed = functional.pad(grey_B1HW, pad, mode="replicate")
        even = functional.conv2d(framed, self.even_N1SS, stride=self.stride)
        odd = functional.conv2d(framed, self.odd_N1SS, stride=self.stride)
        return (even.square() + odd.square() + _LEAST_ENERGY).sqrt()


class PlainBank(nn.Module):
    """As many convolutions of the same size, without a form."""

    def __init__(self, config: GaborConfig) -> None:
        super().__init__()
        size, self.num_filters = config.kernel_size, config.scales * config.orientations
        self.convolution = nn.Conv2d(
            1, self.num_filters, size, config.stride, size // 2, padding_mode="replicate"
        )

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """[B, N, H / stride, W / stride]."""
        return torch.relu(self.convolution(grey_from_faces(faces_BCHW)))


class Decider(nn.Module):
    """One model of the cascade: filters, convolutions, their average, a linear layer."""

    def __init__(self, config: CascadeGaborConfig, num_classes: int) -> None:
        super().__init__()
        kind = PlainBank if config.gabor.kind == "none" else GaborBank
        self.bank, self.hidden = kind(config.gabor), config.dropout
        groups = tuple((width, 2) for width in config.channels)
        self.convolutions = Convolutions(
            self.bank.num_filters, groups, batch_norm=True, hidden=0.0, halve_last=False
        )
        self.head = nn.Linear(config.channels[-1], num_classes)

    def forward(self, faces_BCHW: Tensor, noise: Noise | None = None) -> Tensor:
        """Logits [B, M]; with noise, a part of the features is hidden."""
        features_BD = self.convolutions(self.bank(faces_BCHW)).mean((2, 3))
        return self.head(dropout(features_BD, self.hidden, "head", noise))

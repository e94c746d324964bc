"""Pieces that several networks are made of.

Shapes: B faces, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.norm import BatchNorm2d, InstanceNorm2d

Norm = Literal["batch", "instance", "none"]


def normalisation(kind: Norm, num_channels: int) -> nn.Module:
    """A norm layer by name; instance norm has no parameters and no running statistics."""
    if kind == "batch":
        return BatchNorm2d(num_channels)
    return InstanceNorm2d(num_channels) if kind == "instance" else nn.Identity()


class ConvNorm(nn.Sequential):
    """3x3 convolution, norm, (leaky) ReLU."""

    def __init__(self, num_in: int, num_out: int, norm: Norm, *, slope: float = 0.0) -> None:
        activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
        convolution = nn.Conv2d(num_in, num_out, 3, padding=1)
        super().__init__(convolution, normalisation(norm, num_out), activation)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms, and the identity; a bare 1x1 where the width changes."""

    def __init__(self, num_in: int, num_out: int, norm: Norm) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        self.norm_1 = normalisation(norm, num_out)
        self.conv_2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.norm_2 = normalisation(norm, num_out)
        self.skip = (
            nn.Identity() if num_in == num_out else nn.Conv2d(num_in, num_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, num_in, H, W] to [B, num_out, H, W]."""
        inner = functional.relu(self.norm_1(self.conv_1(x)))
        return functional.relu(self.norm_2(self.conv_2(inner)) + self.skip(x))


class ConditionMap(nn.Module):
    """A map for a condition, linear in it: what a condition means at each place of an aligned face.

    Source: SPADE (Park et al., CVPR 2019), with a learnt map in place of a layout.
    """

    def __init__(self, num_conditions: int, num_channels: int, side: int, *, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(num_conditions, num_channels, side, side))

    def forward(self, condition_BK: Tensor) -> Tensor:
        """[B, num_channels, side, side]; 0 for the condition 0."""
        return torch.einsum("bk,kchw->bchw", condition_BK, self.weight)


class ConditionalTransform(nn.Module):
    """Adaptive instance norm: a condition sets every channel's scale and offset, after some noise.

    out = gamma * IN(x + w * noise) + beta, with gamma and beta linear in the condition. FERSNet's
    release starts gamma near 0, and with it the path. `residual` takes 1 + gamma instead; there the
    condition starts strong, for else a short training never finds it. With `side` (ours) beta
    differs from place to place of a map of that side: a beta that is the same everywhere is lost in
    the next instance norm. `noisy` False: it never takes noise.
    """

    def __init__(
        self,
        num_channels: int,
        num_conditions: int,
        *,
        residual: bool = False,
        side: int | None = None,
        noisy: bool = True,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.noise_strength = nn.Parameter(torch.zeros(1)) if noisy else None
        self.style = nn.Linear(num_conditions, 2 * num_channels)
        nn.init.xavier_normal_(self.style.weight, gain=3.0 if residual else 0.1)
        nn.init.zeros_(self.style.bias)
        self.norm = InstanceNorm2d(num_channels)
        self.place = None
        if side is not None:
            self.place = ConditionMap(num_conditions, num_channels, side, std=0.5)

    def forward(self, x: Tensor, condition_BK: Tensor, noise_B1HW: Tensor | None = None) -> Tensor:
        """`x` [B, C, H, W] under the condition; without noise it is deterministic."""
        if noise_B1HW is not None:
            assert self.noise_strength is not None
            x = x + self.noise_strength * noise_B1HW
        gamma, beta = self.style(condition_BK)[:, :, None, None].chunk(2, dim=1)
        if self.place is not None:
            beta = beta + self.place(condition_BK)
        return self.norm(x) * (gamma + 1 if self.residual else gamma) + beta


class PatchCritic(nn.Module):
    """Conditional PatchGAN (Isola et al., CVPR 2017): a score for every patch, [B, 1, H/16, W/16].

    Each class is one more map beside the face. One halving per width; no norm after the first.
    """

    def __init__(self, image_channels: int, num_classes: int, channels: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = image_channels + num_classes
        for index, after in enumerate(channels):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
            layers += [InstanceNorm2d(after)] if index else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = after
        layers += [nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(before, 1, 4, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, faces_BCHW: Tensor, condition_BK: Tensor) -> Tensor:
        """Scores without a sigmoid."""
        side = faces_BCHW.shape[2:]
        maps_BKHW = condition_BK[:, :, None, None].expand(-1, -1, *side)
        return self.layers(torch.cat([faces_BCHW, maps_BKHW.to(faces_BCHW.dtype)], dim=1))

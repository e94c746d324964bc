"""LightCNN-9 and LightCNN-29 v2 (Wu, He, Sun, Tan, IEEE TIFS 2018): small face-identity networks.

Their activation is max-feature-map: a layer computes twice its channels and keeps, position by
position, the larger of the two halves. Parameters are named as in the published weights, but for
one prefix (`names_from_published`). Shapes: B faces, C channels, H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (48, 96, 192, 128, 128)
"""Channels after the first layer and the four groups, at width 1."""

EMBEDDING_FEATURES = 256
_GREY = (0.2989, 0.5870, 0.1140)


def grey_from_faces(faces_BCHW: Tensor) -> Tensor:
    """Faces in [-1, 1], grey or RGB, as grey [B, 1, H, W] in [0, 1], the networks' input."""
    if faces_BCHW.shape[1] == 3:
        luma_C = faces_BCHW.new_tensor(_GREY).view(1, 3, 1, 1)
        faces_BCHW = (faces_BCHW * luma_C).sum(dim=1, keepdim=True)
    return faces_BCHW * 0.5 + 0.5


class MaxFeatureMap(nn.Module):
    """A convolution (or, with kernel 0, a linear layer) to twice the features, and the maximum."""

    def __init__(self, num_in: int, num_out: int, kernel_size: int) -> None:
        super().__init__()
        self.filter: nn.Module
        if kernel_size:
            self.filter = nn.Conv2d(num_in, 2 * num_out, kernel_size, padding=kernel_size // 2)
        else:
            self.filter = nn.Linear(num_in, 2 * num_out)

    def forward(self, x: Tensor) -> Tensor:
        """The maximum of the layer's two halves."""
        first, second = self.filter(x).chunk(2, dim=1)
        return torch.maximum(first, second)


class Group(nn.Module):
    """A 1x1 layer, then a 3x3 layer to the next width."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv_a = MaxFeatureMap(num_in, num_in, 1)
        self.conv = MaxFeatureMap(num_in, num_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, num_in, H, W] to [B, num_out, H, W]."""
        return self.conv(self.conv_a(x))


class Residual(nn.Module):
    """Two 3x3 layers and the identity."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv1 = MaxFeatureMap(num_channels, num_channels, 3)
        self.conv2 = MaxFeatureMap(num_channels, num_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`."""
        return x + self.conv2(self.conv1(x))


class _LightCNN(nn.Module):
    """What both shapes share: the input's form, the feature maps, the embedding."""

    def features(self, faces_BCHW: Tensor) -> list[Tensor]:
        """The maps after each of the four poolings, for faces in [-1, 1], grey or RGB."""
        raise NotImplementedError

    def pooled(self, faces_BCHW: Tensor) -> Tensor:
        """The last pooled map, deepest before the dense layer."""
        return self.features(faces_BCHW)[-1]

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        """Identity features [B, 256]; the faces must have the side it was built for."""
        return self.embed_map(self.features(faces_BCHW)[-1])

    def embed_map(self, map_BCHW: Tensor) -> Tensor:
        """Identity features of the last pooled map."""
        raise NotImplementedError

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The same as `embed`."""
        return self.embed(faces_BCHW)


class LightCNN9(_LightCNN):
    """Nine layers. `width` scales the channels (1: published); `image_size` is published as 128."""

    def __init__(self, *, image_size: int = 128, width: float = 1.0) -> None:
        super().__init__()
        first, *groups, last = _widths(width)
        pool = nn.MaxPool2d(2, ceil_mode=True)
        self.layers = nn.Sequential(
            MaxFeatureMap(1, first, 5),
            pool,
            Group(first, groups[0]),
            pool,
            Group(groups[0], groups[1]),
            pool,
            Group(groups[1], groups[2]),
            Group(groups[2], last),
            pool,
        )
        self.fc1 = MaxFeatureMap(last * _pooled_side(image_size) ** 2, EMBEDDING_FEATURES, 0)
        _initialise(self, gain=1.0)

    def features(self, faces_BCHW: Tensor) -> list[Tensor]:
        x, maps = grey_from_faces(faces_BCHW), []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        return maps

    def embed_map(self, map_BCHW: Tensor) -> Tensor:
        return self.fc1(map_BCHW.flatten(1))


class LightCNN29v2(_LightCNN):
    """Twenty-nine layers with residual blocks, pooled by maximum plus mean."""

    def __init__(
        self, *, image_size: int = 128, width: float = 1.0, num_blocks: Sequence[int] = (1, 2, 3, 4)
    ) -> None:
        super().__init__()
        channels = _widths(width)
        self.conv1 = MaxFeatureMap(1, channels[0], 5)
        for index, count in enumerate(num_blocks):
            blocks = [Residual(channels[index]) for _ in range(count)]
            self.add_module(f"block{index + 1}", nn.Sequential(*blocks))
            self.add_module(f"group{index + 1}", Group(channels[index], channels[index + 1]))
        self.fc = nn.Linear(channels[-1] * _pooled_side(image_size) ** 2, EMBEDDING_FEATURES)
        _initialise(self, gain=0.7)

    def features(self, faces_BCHW: Tensor) -> list[Tensor]:
        maps = [_pool(self.conv1(grey_from_faces(faces_BCHW)))]
        for index in (1, 2):
            maps.append(_pool(self._stage(maps[-1], index)))
        maps.append(_pool(self._stage(self._stage(maps[-1], 3), 4)))
        return maps

    def _stage(self, x: Tensor, index: int) -> Tensor:
        blocks, group = self.get_submodule(f"block{index}"), self.get_submodule(f"group{index}")
        return group(blocks(x))

    def embed_map(self, map_BCHW: Tensor) -> Tensor:
        return self.fc(map_BCHW.flatten(1))


def _pool(x: Tensor) -> Tensor:
    largest = functional.max_pool2d(x, 2, ceil_mode=True)
    return largest + functional.avg_pool2d(x, 2, ceil_mode=True)


def _pooled_side(image_size: int) -> int:
    """The side after four halvings, each rounded up."""
    for _ in range(4):
        image_size = (image_size + 1) // 2
    return image_size


def _widths(width: float) -> list[int]:
    return [max(4, round(channels * width)) for channels in CHANNELS]


def names_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under this module's names, without the classifier over their subjects."""
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if name.startswith("features."):
            name = "layers." + name.removeprefix("features.")
        if not name.startswith("fc2."):
            renamed[name] = tensor
    return renamed


def _initialise(network: nn.Module, gain: float) -> None:
    """Normal weights of variance gain² / inputs, biases 0.

    The larger of two unit normals has mean square 1, so gain 1 keeps the scale from layer to layer;
    summed poolings and residuals need less.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=gain * layer.weight[0].numel() ** -0.5)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

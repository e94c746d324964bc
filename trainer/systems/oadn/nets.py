"""OADN's networks: a trunk, attention maps around visible points, heads for points and regions.

Shapes: B faces, C channels, H height, W width, D features, h and w sides of the trunk's map F,
P = 24 points, N blocks of the region branch, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets.resnet import ResNet
from trainer.nets.trunk import PlainTrunk
from trainer.systems.oadn.config import GateConfig, NetworkConfig


def visible(points_BP3: Tensor, gates: GateConfig) -> Tensor:
    """Which points are believed, [B, P], bool: score at least T (slide: p_i), and above 0."""
    if not gates.visibility:
        return points_BP3[..., 2] > -1
    return (points_BP3[..., 2] >= gates.threshold) & (points_BP3[..., 2] > 0)


def attention_maps(
    points_BP3: Tensor, shown_BP: Tensor, sigma: float, side: int, size: tuple[int, int]
) -> Tensor:
    """A Gaussian of height 1 around every shown point, 0 for the others; [B, P, h, w].

    It is evaluated at the middles of the map's cells. `sigma` is a share of the image's side.
    """
    height, width = size
    x_W = (torch.arange(width, device=points_BP3.device) + 0.5) * side / width - 0.5
    y_H = (torch.arange(height, device=points_BP3.device) + 0.5) * side / height - 0.5
    spread = 2 * (sigma * side) ** 2
    across_BPW = torch.exp(-(x_W - points_BP3[..., 0:1]).square() / spread)
    down_BPH = torch.exp(-(y_H - points_BP3[..., 1:2]).square() / spread)
    return down_BPH[..., :, None] * across_BPW[..., None, :] * shown_BP[..., None, None]


def attended(features_BDhw: Tensor, maps_BPhw: Tensor, pooling: str) -> Tensor:
    """F under each map, averaged over the cells, and the largest over the points; [B, D]."""
    sums_BPD = torch.einsum("bdhw,bphw->bpd", features_BDhw, maps_BPhw)
    if pooling == "average":
        return (sums_BPD / maps_BPhw[0, 0].numel()).amax(1)
    return (sums_BPD / maps_BPhw.sum((2, 3)).clamp(min=1e-3).unsqueeze(2)).amax(1)


class Head(nn.Sequential):
    """Dense, ReLU, dense: features to class logits."""

    def __init__(self, num_features: int, num_hidden: int, num_classes: int) -> None:
        super().__init__(
            nn.Linear(num_features, num_hidden), nn.ReLU(), nn.Linear(num_hidden, num_classes)
        )


class RegionHeads(nn.Module):
    """The facial region branch: each block of F says by itself what it sees."""

    def __init__(self, config: NetworkConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.blocks_per_side = config.blocks_per_side
        count = 1 if config.shared_heads else config.blocks_per_side**2
        self.heads = nn.ModuleList(
            Head(num_features, config.head_features, num_classes) for _ in range(count)
        )

    def forward(self, features_BDhw: Tensor) -> Tensor:
        """Logits of every block, [B, N, K]."""
        pooled_BDnn = functional.adaptive_avg_pool2d(features_BDhw, self.blocks_per_side)
        pooled_NBD = pooled_BDnn.flatten(2).permute(2, 0, 1)
        heads = list(self.heads) * (len(pooled_NBD) // len(self.heads))
        pairs = zip(heads, pooled_NBD, strict=True)
        return torch.stack([head(block_BD) for head, block_BD in pairs], dim=1)


class OadnNetwork(nn.Module):
    """All parameters; a head that no term wants is None."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo, heads: frozenset[str]) -> None:
        super().__init__()
        self.trunk: nn.Module
        if config.trunk == "plain":
            self.trunk = PlainTrunk(info.channels, config.widths)
            num_features = self.trunk.num_features
        else:
            self.trunk = ResNet(config.trunk, info.channels, width=config.width, last_stride=1)
            num_features = self.trunk.num_features
        num_hidden, num_classes = config.head_features, len(info.classes)
        self.shown: Tensor
        """The share of points that the last training batch showed."""
        self.register_buffer("shown", torch.zeros(()), persistent=False)
        self.attention = self.whole = self.region = None
        if "attention" in heads:
            self.attention = Head(num_features, num_hidden, num_classes)
        if "whole" in heads:
            self.whole = Head(num_features, num_hidden, num_classes)
        if "region" in heads:
            self.region = RegionHeads(config, num_features, num_classes)

    def features(self, faces_BCHW: Tensor) -> Tensor:
        """The trunk's map F [B, D, h, w]."""
        if isinstance(self.trunk, ResNet):
            return self.trunk.last_map(faces_BCHW)
        return self.trunk(faces_BCHW)

"""PaW's networks: localisers, part subnets, whole subnet, region switch, attribute relation.

Shapes: B images, C channels, H height, W width, A attributes, h and w sides of a score map, S side
of a part, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets.norm import BatchNorm2d
from trainer.nets.trunk import PlainTrunk
from trainer.systems.paw.config import GateConfig, NetworkConfig


class Localisers(nn.Module):
    """Several fully convolutional networks; each gives every attribute a map of its response."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.trunks, self.scores = nn.ModuleList(), nn.ModuleList()
        for _ in range(config.localisers):
            trunk = PlainTrunk(info.channels, config.localiser_widths)
            self.trunks.append(trunk)
            self.scores.append(nn.Conv2d(trunk.num_features, len(info.attributes), 1))

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Response maps [B, A, h, w], one for each network."""
        return [
            score(trunk(images_BCHW)) for trunk, score in zip(self.trunks, self.scores, strict=True)
        ]

    def logits(self, maps_BAhw: Tensor) -> Tensor:
        """What one network's maps say of the image, [B, A]."""
        return maps_BAhw.mean((2, 3)) if self.pooling == "average" else maps_BAhw.amax((2, 3))

    def places(self, images_BCHW: Tensor) -> Tensor:
        """Where the mean response of all networks is largest: x, y in shares, [B, A, 2].

        Responses are taken as they differ from the map's mean, with the sign of the attribute's
        reading: an absent attribute is looked for where its absence shows.
        """
        found = self(images_BCHW)
        maps_BAhw = torch.stack(found).mean(0)
        sign_BA = torch.stack([self.logits(one) for one in found]).mean(0).sign()
        width = maps_BAhw.shape[3]
        best_BA = (maps_BAhw * sign_BA[..., None, None]).flatten(2).argmax(2)
        row_BA, column_BA = best_BA.div(width, rounding_mode="floor"), best_BA % width
        size = images_BCHW.new_tensor([width, maps_BAhw.shape[2]])
        return (torch.stack([column_BA, row_BA], dim=2) + 0.5) / size


class PartSubnets(nn.Module):
    """One small network for each attribute, side by side as groups of one convolution."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo) -> None:
        super().__init__()
        count = self.count = len(info.attributes)
        layers: list[nn.Module] = []
        num_in = info.channels
        for index, num_out in enumerate(config.part_widths):
            layers += [nn.MaxPool2d(2, ceil_mode=True)] if index else []
            layers += [
                nn.Conv2d(count * num_in, count * num_out, 3, padding=1, groups=count, bias=False),
                BatchNorm2d(count * num_out),
                nn.ReLU(),
            ]
            num_in = num_out
        self.layers = nn.Sequential(*layers)
        self.out_AD = nn.Parameter(torch.randn(count, num_in) * num_in**-0.5)
        self.out_A = nn.Parameter(torch.zeros(count))

    def forward(self, parts_BACSS: Tensor) -> Tensor:
        """Each attribute's logit from its own part, [B, A]."""
        pooled_BAD = self.layers(parts_BACSS.flatten(1, 2)).mean((2, 3))
        features_BAD = pooled_BAD.unflatten(1, (self.count, -1))
        return (features_BAD * self.out_AD).sum(2) + self.out_A


class Reader(nn.Module):
    """A trunk that reads all attributes from the whole image: the whole subnet, and the teacher."""

    def __init__(self, widths: Sequence[int], info: DatasetInfo) -> None:
        super().__init__()
        self.trunk = PlainTrunk(info.channels, widths)
        self.out = nn.Linear(self.trunk.num_features, len(info.attributes))

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, A], and the map in the middle, which hints are about."""
        maps = self.trunk.maps(images_BCHW)
        return self.out(maps[-1].mean((2, 3))), maps[len(maps) // 2]


class RegionSwitch(nn.Module):
    """For each attribute, how much its part counts, and how much the whole image."""

    def __init__(self, config: GateConfig, num_attributes: int) -> None:
        super().__init__()
        self.hard = config.hard
        start_A = torch.full((num_attributes,), config.start)
        if config.learned:
            self.gate_A = nn.Parameter(start_A)
        else:
            self.register_buffer("gate_A", start_A)
        self.mean_opening: Tensor
        start = self.opening().detach().mean()
        self.register_buffer("mean_opening", start, persistent=False)

    def opening(self) -> Tensor:
        """The part's share of every attribute, [A]."""
        return torch.sigmoid(self.gate_A)

    def forward(self, part_BA: Tensor, whole_BA: Tensor) -> Tensor:
        """p f^P + (1 - p) f^W; with `hard`, in evaluation, the one that counts more."""
        share_A = self.opening()
        if self.training:
            self.mean_opening.copy_(share_A.detach().mean())
        if self.hard and not self.training:
            share_A = (share_A > 0.5).to(share_A.dtype)
        return share_A * part_BA + (1 - share_A) * whole_BA


class AttributeRelation(nn.Linear):
    """A linear layer from attributes to attributes that starts as the identity."""

    def __init__(self, num_attributes: int) -> None:
        super().__init__(num_attributes, num_attributes)
        with torch.no_grad():
            self.weight.copy_(torch.eye(num_attributes))
            self.bias.zero_()


class Cascade(nn.Module):
    """Everything behind the localisers, which one optimiser moves.

    Names tell stages what to train: `net_*` and `hint` first, then `net_*` and `join_*`.
    """

    def __init__(
        self,
        config: NetworkConfig,
        gates: GateConfig,
        info: DatasetInfo,
        plays: frozenset[str],
    ) -> None:
        super().__init__()
        count = len(info.attributes)
        hints = "hint" in plays
        self.net_parts = PartSubnets(config, info) if "part" in plays else None
        has_whole = "whole" in plays or hints
        self.net_whole = Reader(config.whole_widths, info) if has_whole else None
        self.hint = None
        if hints:
            middle = len(config.whole_widths) // 2
            own, theirs = config.whole_widths[middle], config.teacher_widths[middle]
            self.hint = nn.Conv2d(own, theirs, 1)
        both = self.net_parts is not None and self.net_whole is not None
        self.join_switch = RegionSwitch(gates, count) if both else None
        self.join_relation = AttributeRelation(count) if gates.relation else None

    def answers(self, part_BA: Tensor | None, whole_BA: Tensor | None) -> Tensor:
        """The attributes' logits [B, A] after switch and relation layer, as far as they exist."""
        if self.join_switch is not None:
            assert part_BA is not None and whole_BA is not None
            logits_BA = self.join_switch(part_BA, whole_BA)
        else:
            logits_BA = part_BA if part_BA is not None else whole_BA
        assert logits_BA is not None
        return logits_BA if self.join_relation is None else self.join_relation(logits_BA)


def same_size(map_BDhw: Tensor, like_BDhw: Tensor) -> Tensor:
    """The map averaged or spread to the size of another."""
    if map_BDhw.shape[2:] == like_BDhw.shape[2:]:
        return map_BDhw
    size = (like_BDhw.shape[2], like_BDhw.shape[3])
    return functional.adaptive_avg_pool2d(map_BDhw, size)

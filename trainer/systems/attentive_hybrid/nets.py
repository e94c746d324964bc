"""The three branches and their two steps of fusion.

Shapes: B faces, C channels, H height, W width, D features of a map, F features of a branch, h and w
sides of a map, N regions, S side of a region, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_service.schema import DatasetInfo
from trainer.nets.resnet import ResNet
from trainer.nets.trunk import PlainTrunk
from trainer.systems.attentive_hybrid.config import GateConfig, NetworkConfig

TEMPLATE_N2 = ((0.36, 0.38), (0.64, 0.38), (0.50, 0.54), (0.50, 0.72))
"""Left eye with brow, right eye with brow, nose, mouth of an aligned face: x, y in shares."""

GROUPS_68 = (
    (*range(17, 22), *range(36, 42)),
    (*range(22, 27), *range(42, 48)),
    tuple(range(27, 36)),
    tuple(range(48, 60)),
)
"""Which of 68 landmarks each region is the middle of."""

GROUPS_5 = ((0,), (1,), (2,), (3, 4))


class PlaceAttention(nn.Module):
    """Features averaged over the places of a map, by weights that a 1x1 convolution gives."""

    def __init__(self, num_features: int, on: bool) -> None:
        super().__init__()
        self.score = nn.Conv2d(num_features, 1, 1) if on else None

    def forward(self, map_BDhw: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D], and the weights [B, h, w], which add up to 1."""
        batch, _, height, width = map_BDhw.shape
        if self.score is None:
            weights_Bhw = map_BDhw.new_full((batch, height, width), 1 / (height * width))
        else:
            scores_Bm = self.score(map_BDhw).flatten(1)
            weights_Bhw = torch.softmax(scores_Bm, dim=1).view(batch, height, width)
        return (map_BDhw * weights_Bhw.unsqueeze(1)).sum((2, 3)), weights_Bhw


class Branch(nn.Module):
    """A trunk, attention over places, a dense layer."""

    def __init__(
        self, config: NetworkConfig, info: DatasetInfo, widths: Sequence[int], attends: bool
    ) -> None:
        super().__init__()
        self.trunk: nn.Module
        if config.trunk == "plain":
            self.trunk = PlainTrunk(info.channels, widths)
        else:
            self.trunk = ResNet(config.trunk, info.channels, width=config.width)
        num_features = self.trunk.num_features
        self.attention = PlaceAttention(num_features, attends)
        self.dense = nn.Linear(num_features, config.hidden)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F], and where the branch looks [B, h, w]."""
        if isinstance(self.trunk, ResNet):
            map_BDhw = self.trunk.last_map(images_BCHW)
        else:
            map_BDhw = self.trunk(images_BCHW)
        pooled_BD, weights_Bhw = self.attention(map_BDhw)
        return torch.relu(self.dense(pooled_BD)), weights_Bhw


class HybridNetwork(nn.Module):
    """Global, local and integrated branch; the LSTM over regions; the LSTM over branches."""

    def __init__(self, config: NetworkConfig, gates: GateConfig, info: DatasetInfo) -> None:
        super().__init__()
        hidden, num_classes = config.hidden, len(info.classes)
        self.whole = Branch(config, info, config.global_widths, gates.places)
        self.local = Branch(config, info, config.local_widths, gates.places)
        self.region_score = nn.Linear(hidden, 1) if gates.regions else None
        self.over_regions = nn.LSTM(hidden, hidden, batch_first=True)
        self.over_branches = nn.LSTM(hidden, hidden, batch_first=True)
        self.classes = nn.ModuleDict(
            {
                name: nn.Linear(hidden, num_classes)
                for name in ("global_class", "local_class", "integrated_class", "fused_class")
            }
        )

    def forward(
        self, faces_BCHW: Tensor, regions_BNCSS: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Logits [B, K] of branches and fusion; weights of places [B, h, w] and regions [B, N]."""
        whole_BF, places_Bhw = self.whole(faces_BCHW)
        batch, count = regions_BNCSS.shape[:2]
        regions_BNF = self.local(regions_BNCSS.flatten(0, 1))[0].view(batch, count, -1)
        weights_BN = self._region_weights(regions_BNF)
        local_BF = (regions_BNF * weights_BN.unsqueeze(2)).sum(1)
        integrated_BF = self.over_regions(regions_BNF)[0][:, -1]
        branches_B3F = torch.stack([whole_BF, local_BF, integrated_BF], dim=1)
        fused_BF = self.over_branches(branches_B3F)[0][:, -1]
        features = (whole_BF, local_BF, integrated_BF, fused_BF)
        logits = {
            name: head(one_BF)
            for (name, head), one_BF in zip(self.classes.items(), features, strict=True)
        }
        return logits, places_Bhw, weights_BN

    def _region_weights(self, regions_BNF: Tensor) -> Tensor:
        if self.region_score is None:
            return torch.full_like(regions_BNF[..., 0], 1 / regions_BNF.shape[1])
        return torch.softmax(self.region_score(regions_BNF).squeeze(2), dim=1)


def region_centres(landmarks_BL3: Tensor | None, faces_BCHW: Tensor) -> Tensor:
    """The regions' middles, x, y in shares, [B, N, 2]: of landmarks, or of the template.

    Where a face's landmarks are not known the template stands in. ValueError unless 5 or 68.
    """
    template_BN2 = faces_BCHW.new_tensor(TEMPLATE_N2).expand(faces_BCHW.shape[0], -1, -1)
    if landmarks_BL3 is None:
        return template_BN2
    groups = {5: GROUPS_5, 68: GROUPS_68}.get(landmarks_BL3.shape[1])
    if groups is None:
        raise ValueError(
            f"attentive_hybrid: {landmarks_BL3.shape[1]} landmarks were given; valid: 5 or 68"
        )
    middles = [landmarks_BL3[:, list(group), :2].mean(1) for group in groups]
    centres_BN2 = (torch.stack(middles, dim=1) + 0.5) / faces_BCHW.shape[-1]
    known_B = centres_BN2.isfinite().flatten(1).all(1)
    return torch.where(known_B.view(-1, 1, 1), centres_BN2.nan_to_num(), template_BN2)

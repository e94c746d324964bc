"""ExprGAN's networks: controller, encoder, decoder, image critic with Q, latent critic.

Shapes: B faces, C channels, H height, W width, S side, Z identity code, K classes, d numbers of
the expression code per class, E = K d the whole code, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets.blocks import ConditionMap
from trainer.nets.norm import BatchNorm1d, BatchNorm2d
from trainer.systems.exprgan.config import NetworkConfig

_SLOPE = 0.2
_RESIDUAL_STD = 0.02
_PLACE_STD = 0.2


def expression_code(
    expression_B: Tensor, magnitude_Bd: Tensor, num_classes: int, zero_class: int | None = None
) -> Tensor:
    """The controller: +|z| for the wanted class, -|z| for every other one; [B, K d].

    Faces of `zero_class` get the code 0. Source: section 3.1 (`F_ctrl`), with z given as |z|.
    """
    sign_BK = functional.one_hot(expression_B, num_classes).to(magnitude_Bd.dtype) * 2 - 1
    code_BKd = sign_BK.unsqueeze(2) * magnitude_Bd.unsqueeze(1)
    if zero_class is not None:
        code_BKd = code_BKd * (expression_B != zero_class).view(-1, 1, 1)
    return code_BKd.flatten(1)


class CodeConv(nn.Module):
    """A 3x3 convolution whose input is joined by the code as constant maps.

    The code's part of the sum takes at most nine values per channel, one for the inside and one for
    each edge and corner, so it is computed on a 3x3 map and spread.
    """

    def __init__(self, num_in: int, num_code: int, num_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.num_in = num_in
        self.conv = nn.Conv2d(num_in + num_code, num_out, 3, padding=1, bias=bias)

    def forward(self, x_BCHW: Tensor, code_BE: Tensor) -> Tensor:
        """[B, num_in, H, W] and [B, num_code] to [B, num_out, H, W]; H and W at least 3."""
        weight = self.conv.weight
        face_part = functional.conv2d(x_BCHW, weight[:, : self.num_in], self.conv.bias, padding=1)
        code_BE33 = code_BE[:, :, None, None].expand(-1, -1, 3, 3)
        code_part = functional.conv2d(code_BE33, weight[:, self.num_in :], padding=1)
        rows, columns = (_spread(side, code_BE.device) for side in x_BCHW.shape[2:])
        return face_part + code_part.index_select(2, rows).index_select(3, columns)


def _spread(side: int, device: torch.device) -> Tensor:
    """First, middle (side - 2 times), last."""
    index = torch.ones(side, dtype=torch.long, device=device)
    index[0], index[-1] = 0, 2
    return index


class Encoder(nn.Module):
    """A face to its identity code in (-1, 1)."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo) -> None:
        super().__init__()
        kernel, num_in = config.kernel_size, info.channels
        self.convs = nn.ModuleList()
        for num_out in config.encoder_channels:
            self.convs.append(nn.Conv2d(num_in, num_out, kernel, stride=2, padding=kernel // 2))
            num_in = num_out
        side = lowest_side(config, info.image_size)
        self.latent = nn.Linear(num_in * side * side, config.latent_dims)

    def forward(self, faces_BCHW: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The code g(x) [B, Z], and the maps on the way to it, from fine to coarse."""
        x, maps = faces_BCHW, []
        for conv in self.convs:
            x = functional.relu(conv(x))
            maps.append(x)
        return torch.tanh(self.latent(x.flatten(1))), tuple(maps)


class Decoder(nn.Module):
    """Identity code and expression code through all layers; the expression code joins each.

    With `skips` (ours) the encoder's map of the same side joins too, and at last the face itself.
    With `place_code` (ours) the code also adds a map of its own (`ConditionMap`).
    """

    def __init__(self, config: NetworkConfig, info: DatasetInfo, num_code: int) -> None:
        super().__init__()
        self.side = lowest_side(config, info.image_size)
        self.repeats = max(config.latent_dims // len(info.classes), 1)
        first, *widths = config.decoder_channels
        self.num_doublings = len(config.encoder_channels)
        if len(widths) < self.num_doublings:
            raise ValueError(
                f"exprgan: system.network.decoder_channels has {len(config.decoder_channels)} "
                f"widths; {self.num_doublings} encoder_channels need at least "
                f"{self.num_doublings + 1}"
            )
        self.skips, self.residual = config.skips, config.output == "residual"
        beside = [*config.encoder_channels[-2::-1], info.channels] if config.skips else []
        beside += [0] * (len(widths) - len(beside))
        self.dense = nn.Linear(config.latent_dims + num_code * self.repeats, first * self.side**2)
        self.convs = nn.ModuleList()
        for (num_in, num_out), skip in zip(pairwise(config.decoder_channels), beside, strict=True):
            self.convs.append(CodeConv(num_in + skip, num_code, num_out, bias=self.residual))
        self.places = nn.ModuleList()
        for level, width in enumerate(widths[: self.num_doublings] if config.place_code else ()):
            side = self.side * 2 ** (level + 1)
            # noise on the finest maps would stay in the faces as grain
            std = _PLACE_STD if side < info.image_size // 2 else 0.0
            self.places.append(ConditionMap(num_code, width, side, std=std))
        self.draw = CodeConv(widths[-1], num_code, info.channels)
        if self.residual:
            nn.init.normal_(self.draw.conv.weight, std=_RESIDUAL_STD)

    def forward(
        self, latent_BZ: Tensor, code_BE: Tensor, faces_BCHW: Tensor, maps: Sequence[Tensor]
    ) -> Tensor:
        """The made faces; output residual looks at the source's pixels, skips at its maps."""
        joined = torch.cat([latent_BZ, code_BE.repeat(1, self.repeats)], dim=1)
        x = functional.relu(self.dense(joined)).unflatten(1, (-1, self.side, self.side))
        beside = [*maps[-2::-1], faces_BCHW]
        for level, conv in enumerate(self.convs):
            if level < self.num_doublings:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
                x = torch.cat([x, beside[level]], dim=1) if self.skips else x
            x = conv(x, code_BE)
            if level < len(self.places):
                x = x + self.places[level](code_BE)
            x = functional.relu(x)
        drawn_BCHW = self.draw(x, code_BE)
        return faces_BCHW + drawn_BCHW if self.residual else torch.tanh(drawn_BCHW)


class Generator(nn.Module):
    """G_enc and G_dec, which one optimiser moves."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo, num_code: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, info)
        self.decoder = Decoder(config, info, num_code)

    def forward(self, faces_BCHW: Tensor, code_BE: Tensor) -> Tensor:
        """The faces [B, C, H, W] with the expressions that the codes say."""
        latent_BZ, maps = self.encoder(faces_BCHW)
        return self.decoder(latent_BZ, code_BE, faces_BCHW, maps)


class Reading(nn.Module):
    """The critic's trunk, which Q shares, and its own reading of the class."""

    def __init__(
        self, config: NetworkConfig, info: DatasetInfo, channels: int, reads: bool
    ) -> None:
        super().__init__()
        kernel, num_classes = config.kernel_size, len(info.classes)
        self.joins, self.pools = config.critic_condition == "concatenate", config.critic_pooling
        num_joined = num_classes if self.joins else 0
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        num_in, side = channels, info.image_size
        for num_out in config.critic_channels:
            width, padding = num_in + num_joined, kernel // 2
            stride = 1 if config.critic_pooling else 2
            self.convs.append(
                nn.Conv2d(width, num_out, kernel, stride=stride, padding=padding, bias=False)
            )
            self.norms.append(BatchNorm2d(num_out))
            num_in, side = num_out, (side + 1) // 2
        num_flat = (num_in + num_joined) * side * side
        self.dense = nn.Linear(num_flat, config.critic_features, bias=False)
        self.norm = BatchNorm1d(config.critic_features)
        self.num_features = config.critic_features + num_joined
        self.classes = nn.Linear(self.num_features, num_classes) if reads else None

    def forward(self, faces_BCHW: Tensor, class_BK: Tensor) -> Tensor:
        """Features [B, F]; `class_BK` (one-hot) joins every layer, or is not looked at."""
        x = self._join(faces_BCHW, class_BK)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
            x = functional.max_pool2d(x, 2, ceil_mode=True) if self.pools else x
            x = self._join(x, class_BK)
        features_BF = functional.leaky_relu(self.norm(self.dense(x.flatten(1))), _SLOPE)
        return self._join(features_BF, class_BK)

    def _join(self, x: Tensor, class_BK: Tensor) -> Tensor:
        if not self.joins:
            return x
        spread = class_BK.view(*class_BK.shape, *([1] * (x.dim() - 2)))
        return torch.cat([x, spread.expand(-1, -1, *x.shape[2:])], dim=1)


class CodeReader(nn.Module):
    """Q: the code back from the critic's features, by one small network for each class."""

    def __init__(self, config: NetworkConfig, num_in: int, num_classes: int, dims: int) -> None:
        super().__init__()
        shared, own = config.code_features
        self.shared = nn.Linear(num_in, shared, bias=False)
        self.shared_norm = BatchNorm1d(shared)
        self.own = nn.Linear(shared, num_classes * own, bias=False)
        self.own_norm = BatchNorm1d(num_classes * own)
        self.out_KdF = nn.Parameter(torch.randn(num_classes, dims, own) * own**-0.5)
        self.out_Kd = nn.Parameter(torch.zeros(num_classes, dims))

    def forward(self, features_BF: Tensor) -> Tensor:
        """The code [B, K d], in (-1, 1)."""
        x = functional.leaky_relu(self.shared_norm(self.shared(features_BF)), _SLOPE)
        x = functional.leaky_relu(self.own_norm(self.own(x)), _SLOPE)
        x_BKF = x.unflatten(1, (self.out_KdF.shape[0], -1))
        code_BKd = torch.einsum("bkf,kdf->bkd", x_BKF, self.out_KdF) + self.out_Kd
        return torch.tanh(code_BKd).flatten(1)


class Judging(nn.Module):
    """What is made of the critic's features: D_img's score, and Q."""

    def __init__(self, config: NetworkConfig, num_in: int, num_classes: int, dims: int) -> None:
        super().__init__()
        self.score = nn.Linear(num_in, 1)
        projects = config.critic_condition == "project"
        self.by_class = nn.Linear(num_classes, num_in, bias=False) if projects else None
        self.code = CodeReader(config, num_in, num_classes, dims)

    def scores(self, features_BF: Tensor, class_BK: Tensor) -> Tensor:
        """Logits [B] of being real and of the class.

        Projection: Miyato and Koyama, ICLR 2018.
        """
        score_B = self.score(features_BF).squeeze(1)
        if self.by_class is None:
            return score_B
        return score_B + (self.by_class(class_BK) * features_BF).sum(1)


class Critic(nn.Module):
    """D_img and Q, which one optimiser moves; `reads` where it also reads classes by itself."""

    def __init__(
        self, config: NetworkConfig, info: DatasetInfo, dims: int, *, channels: int, reads: bool
    ) -> None:
        super().__init__()
        num_classes = len(info.classes)
        self.reading = Reading(config, info, channels, reads)
        self.judging = Judging(config, self.reading.num_features, num_classes, dims)


class LatentCritic(nn.Module):
    """D_z: whether an identity code came from the uniform prior."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        num_in = config.latent_dims
        for num_out in config.latent_critic_features:
            layers += [nn.Linear(num_in, num_out, bias=False), BatchNorm1d(num_out), nn.ReLU()]
            num_in = num_out
        self.layers = nn.Sequential(*layers, nn.Linear(num_in, 1))

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Logits [B]."""
        return self.layers(latent_BZ).squeeze(1)


def lowest_side(config: NetworkConfig, image_size: int) -> int:
    """The side of the encoder's last map; ValueError where halving does not come out even."""
    factor = 2 ** len(config.encoder_channels)
    if image_size % factor or image_size // factor < 2:
        raise ValueError(
            f"exprgan: data.image_size is {image_size}; {len(config.encoder_channels)} halvings "
            f"(system.network.encoder_channels) need a multiple of {factor}, at least {2 * factor}"
        )
    return image_size // factor

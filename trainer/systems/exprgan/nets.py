"""ExprGAN's networks: controller, encoder, decoder, image critic with Q, latent critic.

Shapes: B faces, C channels, H height, W width, S side, Z identity code, K classes, d numbers of
the expression code per class, E = K d the whole code, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets.norm import BatchNorm1d, BatchNorm2d
from trainer.systems.exprgan.config import NetworkConfig

_SLOPE = 0.2
_MARGIN = 0.12
_MOVEMENT_STD = 0.02


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
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for level, num_out in enumerate(config.encoder_channels):
            self.convs.append(nn.Conv2d(num_in, num_out, kernel, stride=2, padding=kernel // 2))
            normalised = config.normalise and level > 0
            self.norms.append(BatchNorm2d(num_out) if normalised else nn.Identity())
            num_in = num_out
        side = lowest_side(config, info.image_size)
        self.latent = nn.Linear(num_in * side * side, config.latent_dims)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The code g(x) [B, Z]."""
        x = faces_BCHW
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
        return torch.tanh(self.latent(x.flatten(1)))


class Decoder(nn.Module):
    """Identity code and expression code through all layers; the expression code joins each."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo, num_code: int) -> None:
        super().__init__()
        self.side = lowest_side(config, info.image_size)
        self.repeats = max(config.latent_dims // len(info.classes), 1)
        first, *widths = config.decoder_channels
        moves = config.output == "movement"
        self.num_doublings = len(config.encoder_channels) - (1 if moves else 0)
        if len(widths) < max(self.num_doublings, 2):
            raise ValueError(
                f"exprgan: system.network.decoder_channels has {len(config.decoder_channels)} "
                f"widths; {len(config.encoder_channels)} encoder_channels and output "
                f"{config.output} need at least {max(self.num_doublings, 2) + 1}"
            )
        num_read = len(info.classes) if config.source_reading else 0
        num_in = config.latent_dims + num_read + num_code * self.repeats
        self.dense = nn.Linear(num_in, first * self.side**2)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for num_in, num_out in pairwise(config.decoder_channels):
            self.convs.append(CodeConv(num_in, num_code, num_out, bias=config.normalise))
            self.norms.append(BatchNorm2d(num_out) if config.normalise else nn.Identity())
        self.output: Picture | Movement
        if moves:
            self.output = Movement(config, widths[-2], widths[-1])
        else:
            self.output = Picture(widths[-1], num_code, info.channels)

    def forward(self, latent_BZ: Tensor, code_BE: Tensor, faces_BCHW: Tensor) -> Made:
        """The made faces; the source's pixels are looked at by output movement only.

        With `source_reading`, the K shares that the critic reads stand behind the identity code.
        """
        joined = torch.cat([latent_BZ, code_BE.repeat(1, self.repeats)], dim=1)
        x = functional.relu(self.dense(joined)).view(len(joined), -1, self.side, self.side)
        maps: list[Tensor] = []
        for level, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if level < self.num_doublings:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = functional.relu(norm(conv(x, code_BE)))
            maps.append(x)
        return self.output(maps, code_BE, faces_BCHW)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Made:
    """Made faces in [-1, 1] (movement: nearly), and the movement, where that is the output."""

    faces_BCHW: Tensor
    shift_B2HW: Tensor | None = None
    light_B1HW: Tensor | None = None


class Picture(nn.Module):
    """The paper's output: every pixel is drawn."""

    def __init__(self, num_in: int, num_code: int, channels: int) -> None:
        super().__init__()
        self.draw = CodeConv(num_in, num_code, channels)

    def forward(self, maps: Sequence[Tensor], code_BE: Tensor, faces_BCHW: Tensor) -> Made:
        """The drawn faces."""
        return Made(faces_BCHW=torch.tanh(self.draw(maps[-1], code_BE)))


class Movement(nn.Module):
    """An output for small data: how parts of the source move, and where light is added or taken.

    A face keeps its own pixels, so that it stays sharp and stays who it is; the movement is drawn
    coarsely, on a quarter of the face's resolution, the light on half of it.
    """

    def __init__(self, config: NetworkConfig, num_shift_in: int, num_light_in: int) -> None:
        super().__init__()
        self.shift = nn.Conv2d(num_shift_in, 2, 3, padding=1)
        self.light = nn.Conv2d(num_light_in, 1, 3, padding=1)
        for layer in (self.shift, self.light):
            nn.init.normal_(layer.weight, std=_MOVEMENT_STD)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.max_shift, self.max_light = config.max_shift, config.max_light
        self.symmetric = config.symmetric

    def forward(self, maps: Sequence[Tensor], code_BE: Tensor, faces_BCHW: Tensor) -> Made:
        """The source faces, moved and lit."""
        shift, light = self.shift(maps[-2]), self.light(maps[-1])
        if self.symmetric:
            mirrored = shift.flip(3) * shift.new_tensor([-1.0, 1.0]).view(1, 2, 1, 1)
            shift, light = 0.5 * (shift + mirrored), 0.5 * (light + light.flip(3))
        size = tuple(faces_BCHW.shape[2:])
        inner_11HW = _inner(faces_BCHW)
        shift_B2HW = inner_11HW * functional.interpolate(
            torch.tanh(shift) * self.max_shift, size=size, mode="bicubic", align_corners=False
        )
        light_B1HW = inner_11HW * functional.interpolate(
            torch.tanh(light) * self.max_light, size=size, mode="bilinear", align_corners=False
        )
        same_B23 = torch.eye(2, 3, device=shift.device, dtype=shift.dtype).expand(len(shift), 2, 3)
        grid = functional.affine_grid(same_B23, list(faces_BCHW.shape), align_corners=False)
        moved_BCHW = functional.grid_sample(
            faces_BCHW,
            grid + shift_B2HW.permute(0, 2, 3, 1),
            padding_mode="border",
            align_corners=False,
        )
        return Made(
            faces_BCHW=moved_BCHW + light_B1HW, shift_B2HW=shift_B2HW, light_B1HW=light_B1HW
        )


def _inner(like_BCHW: Tensor) -> Tensor:
    """1 inside, falling to 0 at the border: [1, 1, H, W]."""
    height, width = like_BCHW.shape[2:]
    down_H, across_W = (
        (torch.arange(side, device=like_BCHW.device, dtype=like_BCHW.dtype) + 0.5) / side
        for side in (height, width)
    )
    down_H = (torch.minimum(down_H, 1 - down_H) / _MARGIN).clamp(max=1)
    across_W = (torch.minimum(across_W, 1 - across_W) / _MARGIN).clamp(max=1)
    return (down_H[:, None] * across_W[None, :])[None, None]


class Generator(nn.Module):
    """G_enc and G_dec, which one optimiser moves."""

    def __init__(self, config: NetworkConfig, info: DatasetInfo, num_code: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, info)
        self.decoder = Decoder(config, info, num_code)

    def forward(self, faces_BCHW: Tensor, read_BK: Tensor, code_BE: Tensor) -> Made:
        """The faces with the expressions that the codes say; `read_BK` as `decoder` has it."""
        latent_BZ = self.encoder(faces_BCHW)
        return self.decoder(torch.cat([latent_BZ, read_BK], dim=1), code_BE, faces_BCHW)


class Reading(nn.Module):
    """The critic's trunk, which Q shares, and its own reading of the class."""

    def __init__(
        self, config: NetworkConfig, info: DatasetInfo, channels: int, reads: bool
    ) -> None:
        super().__init__()
        kernel, num_classes = config.kernel_size, len(info.classes)
        self.joins = config.critic_condition == "concatenate"
        num_joined = num_classes if self.joins else 0
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        num_in, side = channels, info.image_size
        for num_out in config.critic_channels:
            padding = kernel // 2
            self.convs.append(
                nn.Conv2d(
                    num_in + num_joined, num_out, kernel, stride=2, padding=padding, bias=False
                )
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
            x = self._join(functional.relu(norm(conv(x))), class_BK)
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
        x_BKF = x.view(len(x), self.out_KdF.shape[0], -1)
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

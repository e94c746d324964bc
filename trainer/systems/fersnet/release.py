"""FERSNet as the authors released it: a shared stem, two branches with units, a joint block.

Source: the repository cikrhazo/FERSNet, network.py and net_utlz/blocks.py, read for its shapes.
Shapes: B faces, C channels, H height, W width, K classes; scales 1 to 3 from fine to coarse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.blocks import BasicBlock, ConditionalTransform, ConvNorm, Norm
from trainer.nets.convflu import exchanges
from trainer.nets.dropout import Noise
from trainer.nets.norm import InstanceNorm2d
from trainer.system import DatasetInfo
from trainer.systems.fersnet.config import FersnetConfig
from trainer.systems.fersnet.nets import Classifier, Encoded, Network, num_drawn, rendered

_SLOPE = 0.2


class Upwards(nn.Module):
    """Twice the side, then the conditioned skip beside it (a U-Net's step up)."""

    def __init__(
        self, num_in: int, num_out: int, *, transform: ConditionalTransform, grows: bool
    ) -> None:
        super().__init__()
        if grows:
            self.up = nn.ConvTranspose2d(num_in, num_out, 4, stride=2, padding=1, bias=False)
        else:
            self.up = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        self.norm = InstanceNorm2d(num_out)
        self.transform = transform

    def forward(
        self, x: Tensor, skip_BCHW: Tensor, target_BK: Tensor, noise_B1HW: Tensor | None
    ) -> Tensor:
        """[B, num_out + skip channels, H, W]."""
        risen = functional.relu(self.norm(self.up(x)))
        return torch.cat([risen, self.transform(skip_BCHW, target_BK, noise_B1HW)], dim=1)


class Decoder(nn.Module):
    """From the deepest map and the skips to a face; every skip is conditioned on the target."""

    def __init__(
        self,
        config: FersnetConfig,
        info: DatasetInfo,
        deepest: int,
        skips: tuple[int, ...],
        num_classes: int,
    ) -> None:
        super().__init__()
        net = config.network
        stem, (fine, middle, coarse) = net.stem_channels, net.synthesis_channels
        norm: Norm = net.synthesis_norm
        transforms = [
            ConditionalTransform(
                width,
                num_classes,
                residual=net.residual_modulation,
                side=side if net.place_condition else None,
            )
            for width, side in zip(
                (deepest, *skips), _noise_sides(info.image_size, net.joint_pool), strict=True
            )
        ]
        self.transform = transforms[0]
        rises = [coarse, middle, fine, stem]
        inner = [coarse, 2 * middle, 2 * fine, 2 * stem]
        outs = [coarse, middle, fine, 2 * stem]
        ups, mixes, before = [], [], deepest
        for index, (rise, skip) in enumerate(zip(rises, skips, strict=True)):
            grows = index > 0 or net.joint_pool
            ups.append(Upwards(before, rise, transform=transforms[index + 1], grows=grows))
            first = ConvNorm(rise + skip, inner[index], norm, slope=_SLOPE)
            second = ConvNorm(inner[index], outs[index], norm, slope=_SLOPE)
            mixes.append(nn.Sequential(first, second))
            before = outs[index]
        self.ups, self.mixes = nn.ModuleList(ups), nn.ModuleList(mixes)
        self.last = nn.Sequential(
            nn.ConvTranspose2d(before, stem, 4, stride=2, padding=1, bias=False),
            InstanceNorm2d(stem),
            nn.LeakyReLU(_SLOPE),
            ConvNorm(stem, stem, norm, slope=_SLOPE),
            ConvNorm(stem, stem, norm, slope=_SLOPE),
            nn.Conv2d(stem, num_drawn(net.output, info.channels), 3, padding=1),
        )

    def forward(
        self,
        deepest_BCHW: Tensor,
        skips: tuple[Tensor, ...],
        target_BK: Tensor,
        noise: tuple[Tensor, ...] | None,
    ) -> Tensor:
        """The last layer is linear."""
        noises = noise or (None,) * (len(skips) + 1)
        x = self.transform(deepest_BCHW, target_BK, noises[0])
        for up, mix, skip, own in zip(self.ups, self.mixes, skips, noises[1:], strict=True):
            x = mix(up(x, skip, target_BK, own))
        return self.last(x)


class ReleaseNetwork(Network):
    """The released network; with 96 px colour faces and the default widths, 54.0 M parameters."""

    def __init__(self, config: FersnetConfig, info: DatasetInfo) -> None:
        super().__init__()
        net = config.network
        self.output = net.output
        self.joint_pool = net.joint_pool
        self.noise_sides = _noise_sides(info.image_size, net.joint_pool)
        self.pool = nn.MaxPool2d(2)
        norm: Norm = net.recognition_norm
        self.stem = ConvNorm(info.channels, net.stem_channels, norm)
        own, other = net.recognition_channels, net.synthesis_channels
        self.recognition = _branch(net.stem_channels, own, net.num_blocks, norm)
        joint = own[-1]
        self.synthesis = None
        if config.sharing == "convflu":
            self.synthesis = _branch(net.stem_channels, other, net.num_blocks, net.synthesis_norm)
            self.exchanges = exchanges(list(zip(own, other, strict=True)), config.gates)
            joint += other[-1]
        else:
            self.exchanges = nn.ModuleDict()
        self.joint = BasicBlock(joint, joint, norm)
        self.split = (own[-1], joint - own[-1])
        self.head = ConvNorm(own[-1], own[-1], norm)
        side = info.image_size >> (5 if net.joint_pool else 4)
        self.classifier = Classifier(net, own[-1], side, len(info.classes))
        self.decoder = None
        if config.sharing != "single":
            skips = other if self.synthesis is not None else own
            deepest = skips[-1]
            skips = (*reversed(skips), net.stem_channels)
            self.decoder = Decoder(config, info, deepest, skips, len(info.classes))

    def encode(self, faces_BCHW: Tensor, *, decodes: bool = True) -> Encoded:
        """The joint block mixes both tasks, so recognition needs the whole synthesis branch."""
        stem = self.pool(self.stem(faces_BCHW))
        x = y = stem
        skips = [stem]
        for scale, own in enumerate(self.recognition, start=1):
            x = self.pool(own(x))
            if self.synthesis is not None:
                y = self.pool(self.synthesis[scale - 1](y))
                x, y = self.exchanges[f"scale_{scale}"](x, y)
            skips.append(x if self.synthesis is None else y)
        x = self.joint(x if self.synthesis is None else torch.cat([x, y], dim=1))
        x = self.pool(x) if self.joint_pool else x
        deepest = x
        if self.synthesis is not None:
            x, deepest = x.split(self.split, dim=1)
        return Encoded(
            faces_BCHW=faces_BCHW,
            recognition_BCHW=x,
            synthesis_BCHW=deepest,
            skips=tuple(reversed(skips)),
        )

    def classify(self, encoded: Encoded, noise: Noise | None = None) -> Tensor:
        return self.classifier(self.head(encoded.recognition_BCHW), noise)

    def decode(
        self, encoded: Encoded, target_BK: Tensor, noise: tuple[Tensor, ...] | None
    ) -> Tensor:
        assert self.decoder is not None and encoded.synthesis_BCHW is not None
        drawn = self.decoder(encoded.synthesis_BCHW, encoded.skips, target_BK, noise)
        return rendered(self.output, encoded.faces_BCHW, drawn)


def _branch(
    stem: int, channels: tuple[int, int, int], num_blocks: int, norm: Norm
) -> nn.ModuleList:
    """One stage per scale, of `num_blocks` blocks; the pooling is the network's."""
    stages, before = nn.ModuleList(), stem
    for after in channels:
        blocks = [BasicBlock(before if n == 0 else after, after, norm) for n in range(num_blocks)]
        stages.append(nn.Sequential(*blocks))
        before = after
    return stages


def _noise_sides(image_size: int, joint_pool: bool) -> tuple[int, ...]:
    """Noise enters the deepest map and each of the four skips; ValueError for sides that break."""
    halvings = 5 if joint_pool else 4
    if image_size % 2**halvings or image_size < 3 * 2 ** (halvings - 1):
        raise ValueError(
            f"data.image_size is {image_size}; fersnet's form release halves it {halvings} times "
            f"and needs a multiple of {2**halvings} (system.network.joint_pool "
            f"{str(not joint_pool).lower()} needs one of {2 ** (4 if joint_pool else 5)})"
        )
    return (image_size >> halvings, *(image_size >> power for power in (4, 3, 2, 1)))

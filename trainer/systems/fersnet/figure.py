"""FERSNet as the paper's figure draws it: two VGG-like encoders that each see the face itself.

Source: Zhao et al., ICPR 2020, framework figure. After each of three stages ConvFLU's recognition
side feeds the next stage; its synthesis side goes only to the decoder, as the skip of its scale.
The figure gives no widths; where it leaves a choice, README.md says what was chosen.
Shapes: B faces, C channels, H height, W width, K classes; scales 1 to 3 from fine to coarse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.blocks import ConvNorm, Norm
from trainer.nets.convflu import NUM_SCALES, exchanges
from trainer.nets.dropout import Noise
from trainer.system import DatasetInfo
from trainer.systems.fersnet.config import FersnetConfig
from trainer.systems.fersnet.nets import Classifier, Encoded, Network, num_drawn, rendered


class FigureDecoder(nn.Module):
    """The target expression through a linear layer, beside the bottleneck; then three steps up."""

    def __init__(
        self,
        widths: tuple[int, int, int],
        skips: tuple[int, ...],
        norm: Norm,
        info: DatasetInfo,
        output: str,
    ) -> None:
        super().__init__()
        deepest, condition = skips[0], widths[0]
        self.target = nn.Linear(len(info.classes), condition)
        self.bottleneck = ConvNorm(deepest + condition, widths[-1], norm)
        self.steps, before = nn.ModuleList(), widths[-1]
        for width, skip in zip(reversed(widths), skips, strict=True):
            first = ConvNorm(before + skip, width, norm)
            self.steps.append(nn.Sequential(first, ConvNorm(width, width, norm)))
            before = width
        self.last = nn.Conv2d(before, num_drawn(output, info.channels), 1)
        assert self.last.bias is not None
        # mid-grey: the ReLU behind it must not start dead
        nn.init.constant_(self.last.bias, 0.5 if output == "image" else 0.0)

    def forward(self, deepest: Tensor, skips: tuple[Tensor, ...], target_BK: Tensor) -> Tensor:
        """Before the last activation; an image on the scale [0, 1]."""
        condition = functional.relu(self.target(target_BK))[:, :, None, None]
        condition = condition.expand(-1, -1, *deepest.shape[2:])
        x = self.bottleneck(torch.cat([deepest, condition], dim=1))
        for step, skip in zip(self.steps, skips, strict=True):
            x = step(torch.cat([functional.interpolate(x, scale_factor=2), skip], dim=1))
        return self.last(x)


class FigureNetwork(Network):
    """The network of the figure, at any widths."""

    def __init__(self, config: FersnetConfig, info: DatasetInfo) -> None:
        super().__init__()
        net = config.network
        if info.image_size % 8:
            raise ValueError(
                f"data.image_size is {info.image_size}; fersnet's form figure halves it 3 times "
                "and needs a multiple of 8"
            )
        self.noise_sides = ()
        self.output = net.output
        own, other = net.recognition_channels, net.synthesis_channels
        norm, plain = net.recognition_norm, net.synthesis_norm
        self.pool = nn.MaxPool2d(2)
        self.recognition = _stages(info.channels, (*own, own[-1]), net.num_blocks, norm)
        self.classifier = Classifier(net, own[-1], info.image_size // 8, len(info.classes))
        self.synthesis = self.decoder = None
        self.exchanges = nn.ModuleDict()
        if config.sharing == "convflu":
            self.synthesis = _stages(info.channels, other, net.num_blocks, plain)
            self.exchanges = exchanges(list(zip(own, other, strict=True)), config.gates)
        if config.sharing != "single":
            skips = tuple(reversed(own if self.synthesis is None else other))
            self.decoder = FigureDecoder(other, skips, plain, info, net.output)
        gated = [n for n in range(1, NUM_SCALES + 1) if config.gates.has_unit(n, "to_recognition")]
        self.last_leak = max(gated, default=0)
        """The coarsest scale at which recognition looks at synthesis features."""

    def encode(self, faces_BCHW: Tensor, *, decodes: bool = True) -> Encoded:
        x = y = faces_BCHW
        skips: list[Tensor] = []
        for index in range(NUM_SCALES):
            x = self.recognition[index](self.pool(x) if index else x)
            if self.synthesis is None:
                skips.append(x)
            elif decodes or index < self.last_leak:
                y = self.synthesis[index](self.pool(y) if index else y)
                x, skip = self.exchanges[f"scale_{index + 1}"](x, y)
                skips.append(skip)
        deepest = x if self.synthesis is None else y
        return Encoded(
            faces_BCHW=faces_BCHW,
            recognition_BCHW=self.recognition[-1](self.pool(x)),
            synthesis_BCHW=self.pool(deepest) if decodes else None,
            skips=tuple(reversed(skips)),
        )

    def classify(self, encoded: Encoded, noise: Noise | None = None) -> Tensor:
        return self.classifier(encoded.recognition_BCHW, noise)

    def decode(
        self, encoded: Encoded, target_BK: Tensor, noise: tuple[Tensor, ...] | None
    ) -> Tensor:
        assert self.decoder is not None and encoded.synthesis_BCHW is not None
        drawn = self.decoder(encoded.synthesis_BCHW, encoded.skips, target_BK)
        drawn = functional.relu(drawn) * 2 - 1 if self.output == "image" else drawn
        return rendered(self.output, encoded.faces_BCHW, drawn)


def _stages(num_in: int, channels: tuple[int, ...], num_layers: int, norm: Norm) -> nn.ModuleList:
    stages, before = nn.ModuleList(), num_in
    for after in channels:
        layers = [ConvNorm(before if n == 0 else after, after, norm) for n in range(num_layers)]
        stages.append(nn.Sequential(*layers))
        before = after
    return stages

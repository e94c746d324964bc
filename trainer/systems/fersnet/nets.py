"""What both forms of FERSNet have in common: the interface, and the choice between them.

Shapes: B faces, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.dropout import Noise, dropout
from trainer.nets.grids import affine_grid, sampled
from trainer.systems.fersnet.config import NetworkConfig

MAX_MOVE = 0.2
"""The farthest that a pixel moves, in halves of the face's side."""

MAX_SHADE = 0.4
"""The most that a pixel brightens or darkens: a factor of e to that power."""

_SMOOTHING = 7
_FLOW_CHANNELS = 2


def num_drawn(output: str, image_channels: int) -> int:
    """The channels that a decoder must draw."""
    return _FLOW_CHANNELS + 1 if output == "warp" else image_channels


def rendered(output: str, faces_BCHW: Tensor, drawn_BCHW: Tensor) -> Tensor:
    """The edited faces, of what the decoder has drawn.

    `image`: that itself. `residual`: the faces plus that. `warp`: the faces moved along a smooth
    field, then lit or shaded pixel by pixel; muscles do little else to a face.
    """
    if output == "image":
        return drawn_BCHW
    if output == "residual":
        return faces_BCHW + drawn_BCHW
    flow_B2HW = MAX_MOVE * torch.tanh(drawn_BCHW[:, :_FLOW_CHANNELS])
    flow_B2HW = functional.avg_pool2d(
        flow_B2HW, _SMOOTHING, stride=1, padding=_SMOOTHING // 2, count_include_pad=False
    )
    shade_B1HW = MAX_SHADE * torch.tanh(_without_checks(drawn_BCHW[:, _FLOW_CHANNELS:]))
    return (_moved(faces_BCHW, flow_B2HW) + 1) * torch.exp(shade_B1HW) - 1


def _without_checks(map_B1HW: Tensor) -> Tensor:
    """Smoothed both ways, so that nothing is left that alternates over four pixels or fewer."""
    line_5 = map_B1HW.new_tensor([1, 2, 2, 2, 1]) / 8
    padded_B1HW = functional.pad(map_B1HW, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(padded_B1HW, torch.outer(line_5, line_5)[None, None])


def _moved(faces_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """The faces, each pixel taken from where the flow (x, y in halves of the side) points."""
    still_B23 = torch.eye(2, 3, device=faces_BCHW.device).expand(len(faces_BCHW), 2, 3)
    grid_BHW2 = affine_grid(still_B23, faces_BCHW)
    grid_BHW2 = grid_BHW2 + flow_B2HW.permute(0, 2, 3, 1)
    return sampled(faces_BCHW, grid_BHW2.float())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Encoded:
    """Faces after the encoders: what the classifier sees, and what the decoder starts from.

    `skips` go from the coarsest scale to the finest. Without a synthesis branch there are none.
    """

    faces_BCHW: Tensor
    recognition_BCHW: Tensor
    synthesis_BCHW: Tensor | None = None
    skips: tuple[Tensor, ...] = ()

    def every(self, step: int) -> Encoded:
        """Each `step`-th face, beginning with the first."""
        if step == 1:
            return self
        return Encoded(
            faces_BCHW=self.faces_BCHW[::step],
            recognition_BCHW=self.recognition_BCHW[::step],
            synthesis_BCHW=None if self.synthesis_BCHW is None else self.synthesis_BCHW[::step],
            skips=tuple(skip[::step] for skip in self.skips),
        )


class Classifier(nn.Linear):
    """Reads the mean of the last map, or with `places` every place of it."""

    def __init__(self, net: NetworkConfig, channels: int, side: int, num_classes: int) -> None:
        super().__init__(channels * side**2 if net.place_classifier else channels, num_classes)
        self.places, self.hidden = net.place_classifier, net.dropout

    def forward(self, map_BCHW: Tensor, noise: Noise | None = None) -> Tensor:
        """Logits [B, K]."""
        read_BD = map_BCHW.flatten(1) if self.places else map_BCHW.mean(dim=(2, 3))
        return super().forward(dropout(read_BD, self.hidden, "classifier", noise))


class Network(nn.Module, ABC):
    """Encoders, units, classifier and decoder: all that FERSNet's one optimiser moves.

    Called, it recognises: faces [B, C, H, W] to logits [B, K].
    """

    exchanges: nn.ModuleDict
    noise_sides: tuple[int, ...]
    """The sides of the noise maps that the decoder takes, in order."""

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.classify(self.encode(faces_BCHW, decodes=False))

    @abstractmethod
    def encode(self, faces_BCHW: Tensor, *, decodes: bool = True) -> Encoded:
        """Both tasks' features; `decodes` False may leave out what only the decoder needs."""

    @abstractmethod
    def classify(self, encoded: Encoded, noise: Noise | None = None) -> Tensor:
        """Logits [B, K]; the noise, in training, decides what the dropout hides."""

    @abstractmethod
    def decode(
        self, encoded: Encoded, target_BK: Tensor, noise: tuple[Tensor, ...] | None
    ) -> Tensor:
        """The faces with the target expressions (one-hot), about in [-1, 1]; noise at will."""

"""ConvFLU: a gated unit that lets features of the other task leak into the present one.

Source: Zhao, Liu, Xiao, Lun, Lam, "FERSNet", ICPR 2020 (arXiv 2007.04514); the gate goes back to
the leaky unit of Xiao et al., COLING 2018. Of two maps of one scale, the task's own x and the
other's y:

    r = sigmoid(W_r [x, y])             the leaky gate: how much of y may come in
    c = tanh(U x + W (r * y))           the candidate
    z = sigmoid(W_z [x, y])             the memory gate: how much of x is kept
    x' = z * x + (1 - z) * c

The roles of z and 1 - z are those of the authors' release; the paper's figure has them swapped.
Shapes: B faces, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.config import knob

NUM_SCALES = 3
Direction = Literal["to_recognition", "to_synthesis"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Which units there are at one scale."""

    to_recognition: bool = knob(True, doc="whether synthesis features may leak into recognition")
    to_synthesis: bool = knob(True, doc="whether recognition features may leak into synthesis")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The settings of all ConvFLU units.

    A unit that is switched off is not built: its features pass unchanged. With biases that are not
    learned the units have exactly the parameters of the authors' release.
    """

    direction: Literal["both", "to_recognition", "to_synthesis", "none"] = knob(
        "both", doc="units of one direction only, or none, at all scales"
    )
    scale_1: Crossing = field(default_factory=Crossing)
    scale_2: Crossing = field(default_factory=Crossing)
    scale_3: Crossing = field(default_factory=Crossing)
    leak_bias: float = knob(
        0.0, bounds=(-12.0, 12.0), doc="the leaky gates' bias at the start", per_lane=True
    )
    memory_bias: float = knob(
        0.0, bounds=(-12.0, 12.0), doc="the memory gates' bias at the start", per_lane=True
    )
    learned_bias: bool = knob(True, doc="whether the gates' biases are trained")
    kernel_size: Literal[1, 3] = knob(1, doc="side of the gates' convolutions")
    granularity: Literal["pixel", "channel", "scalar"] = knob(
        "pixel", doc="one opening per channel and pixel, per channel, or per face"
    )
    temperature: float = knob(
        1.0,
        bounds=(0.05, 20.0),
        log=True,
        doc="divides what the sigmoids see; small is hard",
        per_lane=True,
    )

    def has_unit(self, scale: int, direction: Direction) -> bool:
        """Whether the unit of that scale (1 to 3) and direction is built."""
        crossing: Crossing = getattr(self, f"scale_{scale}")
        return self.direction in ("both", direction) and getattr(crossing, direction)


class Gate(nn.Module):
    """An opening in (0, 1) from two maps, as fine as the granularity says."""

    def __init__(self, num_in: int, num_out: int, config: GateConfig, bias: float) -> None:
        super().__init__()
        self.pooled = config.granularity != "pixel"
        features = 1 if config.granularity == "scalar" else num_out
        side = config.kernel_size
        self.map = nn.Conv2d(num_in, features, side, padding=side // 2, bias=False)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(config.temperature), persistent=False)
        start = torch.full((features, 1, 1), bias)
        self.bias: Tensor
        if config.learned_bias:
            self.bias = nn.Parameter(start)
        else:
            self.register_buffer("bias", start, persistent=False)
        self.mean_opening: Tensor
        self.register_buffer("mean_opening", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The opening, of what `map` gives; it broadcasts over what it multiplies."""
        if self.pooled:
            x = x.mean(dim=(2, 3), keepdim=True)
        opening = torch.sigmoid((x + self.bias) / self.temperature)
        if self.training:
            self.mean_opening.copy_(opening.detach().mean())
        return opening.to(x.dtype)


class ConvFLU(nn.Module):
    """One unit: one scale, one direction. Parameters with equal channels: 6 C² and the biases."""

    def __init__(self, own_channels: int, other_channels: int, config: GateConfig) -> None:
        super().__init__()
        both = own_channels + other_channels
        self.leak = Gate(both, other_channels, config, config.leak_bias)
        self.memory = Gate(both, own_channels, config, config.memory_bias)
        self.own = nn.Conv2d(own_channels, own_channels, 1, bias=False)
        self.other = nn.Conv2d(other_channels, own_channels, 1, bias=False)

    def forward(self, own_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        """The task's own features, with what the gates let in."""
        leak_BCHW, memory_BCHW = self._gate_maps(torch.cat([own_BCHW, other_BCHW], dim=1))
        leaked_BCHW = self.leak(leak_BCHW) * other_BCHW
        candidate_BCHW = torch.tanh(self.own(own_BCHW) + self.other(leaked_BCHW))
        kept_BCHW = own_BCHW.to(candidate_BCHW.dtype)
        return torch.lerp(candidate_BCHW, kept_BCHW, self.memory(memory_BCHW))

    def _gate_maps(self, both_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """What the two gates see, by one convolution: they look at the same maps."""
        weights = [gate.map.weight for gate in (self.leak, self.memory)]
        maps = functional.conv2d(both_BCHW, torch.cat(weights), padding=self.leak.map.padding)
        leak_BCHW, memory_BCHW = maps.split([len(weight) for weight in weights], dim=1)
        return leak_BCHW, memory_BCHW


class Exchange(nn.Module):
    """The units of one scale; both see the maps as they were before either moved."""

    def __init__(
        self, scale: int, recognition_channels: int, synthesis_channels: int, config: GateConfig
    ) -> None:
        super().__init__()
        self.to_recognition = self.to_synthesis = None
        if config.has_unit(scale, "to_recognition"):
            self.to_recognition = ConvFLU(recognition_channels, synthesis_channels, config)
        if config.has_unit(scale, "to_synthesis"):
            self.to_synthesis = ConvFLU(synthesis_channels, recognition_channels, config)

    def forward(self, recognition: Tensor, synthesis: Tensor) -> tuple[Tensor, Tensor]:
        """Both tasks' maps [B, C, H, W] after the exchange."""
        x, y = recognition, synthesis
        if self.to_recognition is not None:
            recognition = self.to_recognition(x, y)
        if self.to_synthesis is not None:
            synthesis = self.to_synthesis(y, x)
        return recognition, synthesis


def exchanges(channels: Sequence[tuple[int, int]], config: GateConfig) -> nn.ModuleDict:
    """`scale_1` to `scale_3`, each for (recognition, synthesis) channels."""
    return nn.ModuleDict(
        {
            f"scale_{scale}": Exchange(scale, *pair, config)
            for scale, pair in enumerate(channels, start=1)
        }
    )


def gates_of(exchanges: nn.Module) -> dict[str, Gate]:
    """Every gate by its name, like `scale_1/to_recognition/leak`."""
    return {
        name.replace(".", "/"): layer
        for name, layer in exchanges.named_modules()
        if isinstance(layer, Gate)
    }


@contextmanager
def recorded_openings(exchanges: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it, every forward leaves the openings there, mean over channels: [B, 1, H, W]."""
    found: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def record(_gate: nn.Module, _inputs: Any, opening: Tensor) -> None:
            found[name] = opening.detach().mean(dim=1, keepdim=True)

        return record

    gates = gates_of(exchanges).items()
    handles = [gate.register_forward_hook(recorder(name)) for name, gate in gates]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

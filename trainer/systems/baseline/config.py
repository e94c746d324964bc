"""The settings of the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.nets.resnet import Stem
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig

Shape = Literal["resnet18", "alexnet", "vgg13", "plain"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Which network, and how large. `plain_channels` belongs to the plain network alone."""

    shape: Shape = knob("resnet18", doc="the network")
    width: float = knob(1.0, bounds=(0.02, 4.0), doc="factor on its channels; 1 is as published")
    stem: Stem = knob(
        "published", doc="small: first layers of ResNet and AlexNet for faces below 100 px (ours)"
    )
    plain_channels: tuple[int, ...] = knob(
        (32, 64, 128), doc="two 3x3 convolutions each, halved between them"
    )
    batch_norm: bool = knob(False, doc="batch norm in AlexNet and VGG-13 (ours); others have it")
    conv_dropout: float = knob(0.0, bounds=(0.0, 0.9), doc="hidden after each halving (VGG-13)")
    dropout: float = knob(0.0, bounds=(0.0, 0.9), doc="hidden before each dense layer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The one term."""

    classification: Schedule = weight(1.0, doc="cross-entropy")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineConfig:
    """All settings of the system."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_halflife_images: int | None = knob(
        None, bounds=(0, 1e9), doc="averaged weights for prediction"
    )
    label_smoothing: float = knob(0.0, bounds=(0.0, 0.9), doc="of the cross-entropy")
    class_power: float = knob(
        0.0, bounds=(0.0, 1.0), doc="classes weigh (their faces)^-power; 1 weighs them alike"
    )
    balance: bool = knob(False, doc="draw every class equally often")
    images: int = knob(100_000, bounds=(1, 1e9), doc="of the only stage")

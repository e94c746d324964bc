"""The settings of the Residual Masking Network; the defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.nets.resnet import Stem
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The masks: which stages have one, and what bounds it."""

    stage_1: bool = knob(True, doc="a mask after the first stage")
    stage_2: bool = knob(True, doc="after the second")
    stage_3: bool = knob(True, doc="after the third")
    stage_4: bool = knob(True, doc="after the last")
    activation: Literal["softmax", "sigmoid"] = knob(
        "softmax", doc="over the channels of a place, as in the release; or each alone"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The backbone and the depths of its masks."""

    shape: Literal["resnet34", "resnet18"] = knob("resnet34", doc="the backbone")
    width: float = knob(1.0, bounds=(0.02, 4.0), doc="factor on its channels; 1 is as published")
    stem: Stem = knob("published", doc="small: for faces below 100 px (ours)")
    mask_depths: tuple[int, int, int, int] = knob(
        (4, 3, 2, 1), doc="levels of the U-Net after each stage"
    )
    dropout: float = knob(0.4, bounds=(0.0, 0.9), doc="hidden before the last layer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The one term."""

    classification: Schedule = weight(1.0, doc="cross-entropy")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualMaskingConfig:
    """All settings of the system."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    label_smoothing: float = knob(0.0, bounds=(0.0, 0.9), doc="of the cross-entropy (ours)")
    class_power: float = knob(
        0.0, bounds=(0.0, 1.0), doc="classes weigh (their faces)^-power (ours)"
    )
    images: int = knob(100_000, bounds=(1, 1e9), doc="of the only stage")

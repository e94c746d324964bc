"""The settings of TER-GAN. The abstract names the losses; all numbers are ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Each encoder width is a halving by a strided convolution; the decoder doubles them back."""

    encoder_channels: tuple[int, ...] = knob((64, 128, 256, 512), doc="of both encoders")
    critic_channels: tuple[int, ...] = knob((64, 128, 256, 512), doc="of the patch critic")
    expression_features: int = knob(64, bounds=(2, 1024), doc="length of the expression code")
    identity_features: int = knob(256, bounds=(2, 4096), doc="length of the identity code")
    output: Literal["image", "residual"] = knob(
        "image", doc="the decoder draws the face, or what changes in it (ours)"
    )
    skips: bool = knob(False, doc="the identity encoder's maps join the decoder's (ours)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Abstract: adversarial, expression and identity consistency; then a classifier on the code."""

    adversarial: Schedule = weight(1.0, doc="the made face fools the critic")
    reconstruction: Schedule = weight(10.0, doc="a face from its own two codes, L1")
    expression_consistency: Schedule = weight(
        1.0, doc="expression codes of the source and of the made face"
    )
    identity_consistency: Schedule = weight(
        1.0, doc="identity codes of the target and of the made face"
    )
    expression_class: Schedule = weight(1.0, doc="the class read from a real face's code")
    synthetic_class: Schedule = weight(1.0, doc="the source's class read from the made face's code")
    identity_class: Schedule = weight(1.0, doc="the subject read from a real face's identity code")
    prototype: Schedule = weight(1.0, doc="each class' mean expression code, for editing (ours)")
    critic: Schedule = weight(1.0, doc="the critic tells real faces from made ones")


@dataclass(frozen=True, kw_only=True, slots=True)
class TerGanConfig:
    """All settings of the system."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_halflife_images: int | None = knob(
        None, bounds=(0, 1e9), doc="averaged weights for transfer (ours)"
    )
    images: int = knob(500_000, bounds=(1, 1e9), doc="images of the only stage")

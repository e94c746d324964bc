"""The settings of the cascade."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from data_service.schema import Expression
from trainer.config import knob, weight
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig

EASIEST_FIRST = (
    Expression.HAPPINESS,
    Expression.SURPRISE,
    Expression.NEUTRAL,
    Expression.SADNESS,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GaborConfig:
    """The bank of filters in front of every network; no source tells the paper's.

    A filter is a wave of `wavelength` pixels times 2^(scale / 2) under a bell 0.56 waves wide; what
    passes is its magnitude over both phases.
    """

    kind: Literal["fixed", "learned", "none"] = knob(
        "fixed", doc="fixed, starting point, or plain convolutions of as many channels"
    )
    scales: int = knob(5, bounds=(1, 8), doc="wavelengths, half an octave apart")
    orientations: int = knob(8, bounds=(1, 16), doc="directions of the wave")
    wavelength: float = knob(3.0, bounds=(2.0, 16.0), doc="of the finest scale, in pixels")
    kernel_size: int = knob(15, bounds=(3, 63), doc="side of a filter, odd")
    stride: int = knob(2, bounds=(1, 4), doc="of the filters")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """A decision stops the cascade where its confidence is above these."""

    first: float = knob(0.5, bounds=(0.0, 1.0), paper="t_1", doc="of the first model")
    second: float = knob(0.5, bounds=(0.0, 1.0), paper="t_2", doc="of the second")
    third: float = knob(0.5, bounds=(0.0, 1.0), paper="t_3", doc="of the third")
    fourth: float = knob(0.5, bounds=(0.0, 1.0), paper="t_4", doc="of the fourth")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Every model has the same term, each in its own stage."""

    decision: Schedule = weight(1.0, doc="cross-entropy of one class against the rest, or of all")


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeGaborConfig:
    """All settings of the system.

    `order` names the classes that are decided one by one; those that the data lack are left out.
    """

    order: tuple[Expression, ...] = knob(EASIEST_FIRST, doc="from the easiest, at most four")
    gates: GateConfig = field(default_factory=GateConfig)
    gabor: GaborConfig = field(default_factory=GaborConfig)
    channels: tuple[int, ...] = knob(
        (64, 128, 256), doc="of the convolutions after the filters, two of each, then halved"
    )
    dropout: float = knob(0.4, bounds=(0.0, 0.9), doc="hidden before the last layer")
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    label_smoothing: float = knob(0.0, bounds=(0.0, 0.9), doc="of the cross-entropy (ours)")
    images: int = knob(100_000, bounds=(1, 1e9), doc="of each model's stage")

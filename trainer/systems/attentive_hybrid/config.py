"""Settings of the attentive hybrid architecture; the abstract gives the parts, not the sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Trunks, regions and fusion."""

    trunk: Literal["resnet18", "plain"] = knob("resnet18", doc="of the global and of the regions")
    width: float = knob(1.0, bounds=(0.05, 4.0), doc="factor on ResNet-18's channels")
    global_widths: tuple[int, ...] = knob((16, 32, 48, 64), doc="of a plain global trunk")
    local_widths: tuple[int, ...] = knob((16, 32, 48), doc="of the plain trunk of all regions")
    regions: Literal["template", "landmarks"] = knob(
        "template", doc="regions stand where aligned faces have them, or at each face's landmarks"
    )
    region_share: float = knob(0.4, bounds=(0.05, 1.0), doc="side of a region, share of the face's")
    region_side: int = knob(96, bounds=(8, 256), doc="pixels of a region")
    hidden: int = knob(128, bounds=(4, 2048), doc="features of every branch and of both LSTMs")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The attention of the branches; off, places or regions count alike."""

    places: bool = knob(True, doc="attention over the places of a map")
    regions: bool = knob(True, doc="attention over the regions, in the local branch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Cross-entropies of the three branches, and of their fusion."""

    global_class: Schedule = weight(0.3, doc="the whole face's branch")
    local_class: Schedule = weight(0.3, doc="the regions' branch")
    integrated_class: Schedule = weight(0.3, doc="the branch of the regions' combination")
    fused_class: Schedule = weight(1.0, doc="the second LSTM's answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class HybridConfig:
    """All settings of the system."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    images: int = knob(736_260, bounds=(1, 1e9), doc="images of the only stage")

"""The settings of PaW. Most sizes are ours: the paper's were not to be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Widths of the plain trunks, each width but the last followed by a halving."""

    localisers: int = knob(2, bounds=(1, 8), doc="localisation networks that are trained together")
    localiser_widths: tuple[int, ...] = knob((32, 64, 128, 256), doc="of each of them")
    part_widths: tuple[int, ...] = knob((16, 32, 64), doc="of the subnet of each attribute")
    whole_widths: tuple[int, ...] = knob((32, 64, 128, 256), doc="of the subnet of the whole image")
    teacher_widths: tuple[int, ...] = knob((64, 128, 256, 512), doc="of the large net that hints")
    part_share: float = knob(0.35, bounds=(0.05, 1.0), doc="side of a part, share of the image's")
    part_side: int = knob(64, bounds=(8, 256), doc="pixels of a part")
    pooling: Literal["average", "maximum"] = knob("average", doc="of the localisers' score maps")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The region switch layer and the attribute relation layer."""

    learned: bool = knob(True, doc="the switch is learned; else part and whole count alike")
    hard: bool = knob(False, doc="answers come from part or whole alone, whichever counts more")
    start: float = knob(0.0, bounds=(-10.0, 10.0), doc="bias of the switch; 0 is half and half")
    relation: bool = knob(True, doc="the attribute relation layer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What weight 0 leaves out is not built: without `part` it is the whole alone, and so on."""

    localisation: Schedule = weight(1.0, doc="the localisers' reading of the attributes")
    teacher: Schedule = weight(1.0, doc="the large net's reading of the attributes")
    part: Schedule = weight(1.0, doc="each part subnet's reading of its attribute")
    whole: Schedule = weight(1.0, doc="the whole subnet's reading")
    hint: Schedule = weight(1.0, doc="the whole subnet's middle maps against the teacher's")
    attribute: Schedule = weight(1.0, doc="the answers after switch and relation layer")


@dataclass(frozen=True, kw_only=True, slots=True)
class PawConfig:
    """All settings of the system.

    `attributes` are the names that are learned, none stands for all that the lake has. A stage of 0
    images is left out.
    """

    attributes: tuple[str, ...] = ()
    network: NetworkConfig = field(default_factory=NetworkConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    joint_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    localise_images: int = knob(1_627_700, bounds=(0, 1e9), doc="of the localisers' stage")
    teacher_images: int = knob(1_627_700, bounds=(0, 1e9), doc="of the teacher's stage")
    separate_images: int = knob(1_627_700, bounds=(0, 1e9), doc="parts and whole, each by itself")
    joint_images: int = knob(813_850, bounds=(0, 1e9), doc="everything behind the localisers")

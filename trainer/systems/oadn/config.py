"""The settings of OADN. What the paper leaves open has the third-party implementation's value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Trunk and heads; `widths` are those of a plain trunk, `width` is the factor of a ResNet."""

    trunk: Literal["resnet50", "resnet18", "plain"] = knob("resnet50", doc="what makes the maps F")
    width: float = knob(1.0, bounds=(0.05, 4.0), doc="factor on a ResNet's channels")
    widths: tuple[int, ...] = knob((16, 32, 48, 64), doc="channels of a plain trunk")
    head_features: int = knob(256, bounds=(4, 4096), doc="of the hidden layer of every head")
    blocks_per_side: int = knob(
        2, bounds=(1, 8), search=(1, 4), doc="the region branch has K = this squared"
    )
    shared_heads: bool = knob(False, doc="one head for all blocks, as in the third-party code")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """Which of the 24 points are believed, and how each becomes an attention map."""

    visibility: bool = knob(True, doc="points below the threshold are dropped")
    threshold: float = knob(0.6, bounds=(0.0, 1.0), paper="T", doc="least confidence of a point")
    sigma: float = knob(
        0.048, bounds=(0.005, 0.5), log=True, doc="spread of a point's map, share of the side"
    )
    pooling: Literal["average", "weighted"] = knob(
        "average", doc="features under a map: averaged over all cells, or (ours) by the map alone"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OcclusionConfig:
    """Blocks that cover training faces and the landmarks below them (ours; off in the paper)."""

    probability: float = knob(0.0, bounds=(0.0, 1.0), doc="share of faces that are covered")
    size: float = knob(0.5, bounds=(0.05, 1.0), doc="side of a block, share of the face's")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The two branches, and a plain head for comparison. A head of weight 0 is not built.

    The paper ties the weights, as lambda and 1 - lambda: to move along its line, set both. A
    search that begins on the line stays there.
    """

    attention: Schedule = weight(
        0.2,
        paper="lambda",
        bounds=(0.0, 1.0),
        search=(0.05, 0.95),
        complement="region",
        doc="L_LAB: cross-entropy of the attention",
    )
    region: Schedule = weight(0.8, doc="L_FRB: cross-entropy summed over the K blocks; 1 - lambda")
    whole: Schedule = weight(0.0, doc="cross-entropy of a head on the averaged map (ours)")


@dataclass(frozen=True, kw_only=True, slots=True)
class OadnConfig:
    """All settings of the system. `fusion` says whose logits are averaged for the answer."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    occlusion: OcclusionConfig = field(default_factory=OcclusionConfig)
    weights: Weights = field(default_factory=Weights)
    fusion: Literal["all", "regions"] = knob("all", doc="logits of all heads, or of the blocks")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    images: int = knob(736_260, bounds=(1, 1e9), doc="images of the only stage")

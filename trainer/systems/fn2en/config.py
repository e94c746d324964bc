"""The settings of FN2EN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, names_run, weight
from trainer.nets.identity_source import Shape
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The expression network: each width is a 3x3 convolution, ReLU and a halving.

    A 1x1 convolution then gives the channels of the face network's last map; without a face
    network (from scratch) there are `response_channels` of them.
    """

    channels: tuple[int, ...] = knob((64, 128, 256, 512, 512), doc="one halving each")
    response_channels: int = knob(512, bounds=(1, 4096), doc="from scratch: of the 1x1 convolution")
    batch_norm: bool = knob(True, doc="after each 3x3 convolution")
    response_norm: bool = knob(
        False,
        doc="batch norm of the response, whose scale is the face network's, in stage 2 (ours)",
    )
    dense_features: int = knob(256, bounds=(4, 4096), doc="of the dense layer of stage 2")
    dropout: float = knob(0.5, bounds=(0.0, 0.9), doc="hidden after that layer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The paper has one term in each stage, and so no λ."""

    regularisation: Schedule = weight(
        1.0, paper="L_1", doc="distance of the responses of the two networks"
    )
    classification: Schedule = weight(1.0, paper="L_c", doc="cross-entropy")


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementWeights:
    """Where stage 2 departs: the face network is not used any more. Above 0 it is ours."""

    regularisation: Schedule = weight(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fn2enConfig:
    """All settings of the system.

    `identity_network` names the face network: a run of `identity` or of `fn2en.finetuned`, a file
    of published weights, or `random`. With `learner` face it is itself trained as a classifier,
    which is the paper's fine-tuned baseline; `regularisation_images` is then 0, as it is for the
    expression network from scratch.
    """

    learner: Literal["expression", "face"] = knob("expression", doc="the network that is trained")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    weights: Weights = field(default_factory=Weights)
    refinement_weights: RefinementWeights = field(default_factory=RefinementWeights)
    power: Literal[1, 2] = knob(2, doc="p of the distance: 2 is Gaussian, 1 Laplacian")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    regularisation_images: int = knob(50_000, bounds=(0, 1e9), doc="of stage 1; 0: no stage 1")
    refinement_images: int = knob(50_000, bounds=(1, 1e9), doc="of stage 2")
    label_smoothing: float = knob(0.0, bounds=(0.0, 0.9), doc="of the cross-entropy (ours)")
    class_power: float = knob(
        0.0, bounds=(0.0, 1.0), doc="classes weigh (their faces)^-power (ours)"
    )
    identity_network: str = names_run()
    identity_shape: Shape = knob(
        "vggface", doc="shape of a random face network or of one from a file"
    )
    identity_width: float = knob(1.0, bounds=(0.01, 4.0), doc="its width; 1 is as published")

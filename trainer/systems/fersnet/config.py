"""The settings of FERSNet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, names_run, weight
from trainer.nets.convflu import GateConfig
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Widths and depths; the defaults are those of the authors' release.

    `stem_channels` belongs to the release alone. The two branches may differ in width: a narrow
    synthesis branch is what makes the system affordable without a GPU.
    """

    stem_channels: int = knob(64, bounds=(4, 256), doc="channels of the stem that both tasks share")
    recognition_channels: tuple[int, int, int] = knob(
        (128, 256, 512), doc="channels of the recognition branch at the three scales"
    )
    synthesis_channels: tuple[int, int, int] = knob(
        (128, 256, 512), doc="channels of the synthesis branch and of the decoder, likewise"
    )
    critic_channels: tuple[int, ...] = knob((64, 128, 256, 512), doc="one halving per width")
    num_blocks: int = knob(1, bounds=(1, 8), doc="blocks (form release) or layers (figure) a stage")
    joint_pool: bool = knob(True, doc="halve once more after the joint block (form release)")
    recognition_norm: Literal["batch", "none"] = knob("batch", doc="of the recognition branch")
    synthesis_norm: Literal["instance", "none"] = knob(
        "instance", doc="of the convolutions of the synthesis branch and the decoder's mixes"
    )
    residual_modulation: bool = knob(False, doc="scale by 1 + gamma instead of the release's gamma")
    place_condition: bool = knob(
        False, doc="the target expression enters place by place (form release; ours)"
    )
    place_classifier: bool = knob(
        False, doc="the classifier reads the last map place by place, not its mean (ours)"
    )
    dropout: float = knob(0.0, bounds=(0.0, 0.9), doc="hidden of what the classifier reads (ours)")
    output: Literal["image", "residual", "warp"] = knob(
        "image",
        doc="the decoder draws the face, what changes in it, or how it moves and is shaded",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The terms of both players; the symbols follow the names in the authors' release."""

    classification: Schedule = weight(1.0, paper="lambda_cls", doc="cross-entropy of real faces")
    pixel: Schedule = weight(1.0, paper="lambda_pix", doc="L1 to the subject's own target face")
    smooth: Schedule = weight(
        0.0, paper="lambda_smo", doc="squared error of means of 3 x 3 pixels, else as pixel (ours)"
    )
    identity: Schedule = weight(0.05, paper="lambda_idn", doc="identity features, as pixel")
    adversarial: Schedule = weight(0.3, paper="lambda_adv", doc="the edited face fools the critic")
    cycle: Schedule = weight(0.5, paper="lambda_cyc", doc="edited back, the face is the source")
    expression: Schedule = weight(
        0.0, paper="lambda_exp", doc="the own classifier, held still, reads the edited face (ours)"
    )
    keep: Schedule = weight(
        0.0, paper="lambda_kee", doc="L1 of the edited face to its source (ours)"
    )
    critic: Schedule = weight(1.0, paper="lambda_dis", doc="real and edited faces told apart")
    mismatch: Schedule = weight(
        0.0, paper="lambda_mis", doc="real faces under a wrong class count as fake (ours)"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FersnetConfig:
    """All settings of the system.

    `identity_network` names the frozen network of the term `identity`: a run of the system
    `identity`, a file of published weights, or `random`; it is not needed while that weight is 0.
    """

    form: Literal["release", "figure"] = knob("release", doc="the authors' code, or the figure")
    sharing: Literal["convflu", "hard", "single"] = knob(
        "convflu", doc="two encoders with units, one encoder for both tasks, recognition alone"
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    weights: Weights = field(default_factory=Weights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_halflife_images: int | None = knob(
        None, bounds=(0, 1e9), doc="averaged weights for evaluation"
    )
    images: int = knob(441_450, bounds=(1, 1e9), doc="images of the joint stage")
    augmented_images: int = knob(0, bounds=(0, 1e9), doc="images of FES-DA's stage; 0: none")
    synthetic_share: float = knob(
        0.3, bounds=(0.0, 0.9), doc="synthetic faces among those of FES-DA's stage"
    )
    balance: bool = knob(False, doc="draw every class equally often")
    class_power: float = knob(
        0.0, bounds=(0.0, 1.0), doc="classes weigh (their faces)^-power; 1 weighs them alike (ours)"
    )
    label_smoothing: float = knob(0.0, bounds=(0.0, 0.5), doc="of the classification term")
    pixel_in_colour: bool = knob(False, doc="compare colours in pixel and smooth; release: grey")
    vary_views: bool = knob(
        False, doc="critic and classifier see faces moved and lit at random (ours)"
    )
    edit_every: int = knob(1, bounds=(1, 64), doc="edit each n-th face of a batch; 1: all")
    critic_turns: int = knob(3, bounds=(1, 8), doc="the critic's turns per step that it plays")
    critic_every: int = knob(1, bounds=(1, 64), doc="the critic plays in each n-th step; 1: in all")
    identity_network: str = names_run()
    identity_shape: Literal["lightcnn9", "lightcnn29v2", "vggface"] = knob(
        "lightcnn9", doc="shape of a random identity network or of one from a file"
    )
    identity_width: float = knob(1.0, bounds=(0.01, 4.0), doc="its width; 1 is as published")

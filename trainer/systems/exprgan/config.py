"""The settings of ExprGAN. The defaults are the paper's; what goes beyond it is off by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, names_run, weight
from trainer.nets.identity_source import Shape
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig
from trainer.systems.exprgan.views import ViewConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeConfig:
    """The expression controller: how a class and an intensity become the code c."""

    dims_per_class: int = knob(5, bounds=(1, 16), doc="d: numbers of the code for each class")
    neutral_is_zero: bool = knob(
        False, doc="neutral faces have the code 0, so that intensity starts there (ours)"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Widths and depths; the defaults are the released ones, for faces of 128 px.

    Each encoder width is a halving by a strided convolution, each decoder width but the surplus a
    doubling, with the code joined to its input.
    """

    latent_dims: int = knob(50, bounds=(2, 1024), doc="length of the identity code g(x)")
    kernel_size: Literal[3, 5] = knob(5, doc="of the encoder's and the critic's convolutions")
    encoder_channels: tuple[int, ...] = knob((64, 128, 256, 512, 1024), doc="one halving each")
    decoder_channels: tuple[int, ...] = knob(
        (1024, 512, 256, 128, 64, 32, 16), doc="of the dense layer, then one doubling each"
    )
    critic_condition: Literal["concatenate", "project"] = knob(
        "concatenate", doc="the class is joined to every layer, or (ours) only to D_img's score"
    )
    critic_channels: tuple[int, ...] = knob((16, 32, 64, 128), doc="one halving each")
    critic_pooling: bool = knob(
        False, doc="the critic halves by the maximum of 2 x 2, not by strides (ours)"
    )
    critic_features: int = knob(1024, bounds=(8, 4096), doc="dense features that D and Q share")
    code_features: tuple[int, int] = knob((128, 64), doc="Q's layer for all, then for each class")
    latent_critic_features: tuple[int, ...] = knob((64, 32, 16), doc="layers of D_z")
    output: Literal["image", "residual"] = knob(
        "image", doc="the decoder draws the face, or what changes in it (ours)"
    )
    skips: bool = knob(False, doc="the encoder's maps join the decoder's (ours)")
    place_code: bool = knob(False, doc="the code enters the decoder place by place too (ours)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The terms of all three players; lambda_1 to lambda_5 are the paper's objective.

    The paper's pixel and critic terms have weight 1. The terms marked as ours serve small data and
    short training. With `edit_faces` all but `pixel` see faces that are given another class.
    """

    pixel: Schedule = weight(1.0, doc="L1 of a face and its reconstruction, in [-1, 1]")
    identity: Schedule = weight(1.0, paper="lambda_1", doc="identity features, made and source")
    expression_code: Schedule = weight(1.0, paper="lambda_2", doc="Q reads the code in the face")
    adversarial_image: Schedule = weight(0.01, paper="lambda_3", doc="the face fools D_img")
    adversarial_latent: Schedule = weight(0.01, paper="lambda_4", doc="g(x) fools D_z")
    tv: Schedule = weight(0.001, paper="lambda_5", doc="total variation")
    edit_class: Schedule = weight(0.0, doc="D_img's reading of an edited face (ours)")
    pair: Schedule = weight(0.0, doc="L1 to the subject's own face of the made class (ours)")
    pair_smooth: Schedule = weight(
        0.0, doc="squared error of means of 3 x 3 pixels, else as pair (ours)"
    )
    critic: Schedule = weight(1.0, doc="D_img tells real faces from made ones")
    expression_code_critic: Schedule = weight(1.0, doc="Q's own part of lambda_2's term")
    critic_class: Schedule = weight(0.0, doc="D_img reads the class of real faces (ours)")
    critic_mismatch: Schedule = weight(0.0, doc="real faces under a wrong class are fake (ours)")
    latent_critic: Schedule = weight(1.0, doc="D_z tells g(x) from the uniform prior")


@dataclass(frozen=True, kw_only=True, slots=True)
class ControllerWeights:
    """Where the first stage departs: no encoder, so no term that needs one."""

    expression_code: Schedule = weight(1.0)
    adversarial_image: Schedule = weight(1.0)
    critic: Schedule = weight(1.0)
    expression_code_critic: Schedule = weight(1.0)
    critic_mismatch: Schedule = weight(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionWeights:
    """Where the second stage departs: the critics train, but the generator need not fool them."""

    adversarial_image: Schedule = weight(0.0)
    adversarial_latent: Schedule = weight(0.0)
    tv: Schedule = weight(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExprganConfig:
    """All settings of the system.

    `identity_network` names the frozen network of the identity terms: a run of the system
    `identity`, a file of published weights, or `random`. `identity_betas` weigh its feature maps,
    shallow to deep, and none stands for no maps; `identity_embedding` weighs 1 - cosine of its
    embeddings. A stage of 0 images is left out.
    """

    code: CodeConfig = field(default_factory=CodeConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    weights: Weights = field(default_factory=Weights)
    controller_weights: ControllerWeights = field(default_factory=ControllerWeights)
    reconstruction_weights: ReconstructionWeights = field(default_factory=ReconstructionWeights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    latent_critic_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_halflife_images: int | None = knob(
        None, bounds=(0, 1e9), doc="averaged weights for editing (ours)"
    )
    controller_images: int = knob(259_200, bounds=(0, 1e9), doc="of stage 1")
    controller_batch_images: int | None = knob(None, doc="of stage 1; none: the run's")
    reconstruction_images: int = knob(64_800, bounds=(0, 1e9), doc="of stage 2")
    refinement_images: int = knob(64_800, bounds=(1, 1e9), doc="of stage 3")
    edit_faces: bool = knob(
        False, doc="train on edits to another class too, not only on reconstructions (ours)"
    )
    identity_network: str = names_run()
    identity_shape: Shape = knob(
        "vggface", doc="shape of a random identity network or of one from a file"
    )
    identity_width: float = knob(1.0, bounds=(0.01, 4.0), doc="its width; 1 is as published")
    identity_betas: tuple[float, ...] = knob((1.0, 1.0, 1.0, 1.0, 1.0), doc="of its feature maps")
    identity_embedding: float = knob(0.0, bounds=(0.0, 10.0), doc="of its embedding (ours)")

"""ExprGAN's recipes: the paper's sizes and weights, photographs, and drawn faces."""

from __future__ import annotations

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.exprgan.config import (
    CodeConfig,
    ControllerWeights,
    ExprganConfig,
    NetworkConfig,
    Weights,
)
from trainer.systems.exprgan.views import ViewConfig


def paper() -> RunConfig:
    """The released sizes at 128 px colour, Oulu-CASIA's 1,296 training images a fold.

    Stage 1: 200 epochs in batches of 60; stages 2 and 3: 50 epochs each in batches of 48; Adam at
    2e-4 for all three players. It needs a VGG-Face as `system.identity_network`.
    """
    system = ExprganConfig(controller_batch_images=60)
    augment = AugmentConfig(crop_shift_pixels=0)
    data = DataConfig(image_size=128, global_batch_images=48, augment=augment)
    return RunConfig(system_name="exprgan", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """Photographs at 64 px on two CPU cores: as `tiny`, wider and longer."""
    network = NetworkConfig(
        latent_dims=32,
        kernel_size=3,
        encoder_channels=(24, 48, 96, 96),
        decoder_channels=(96, 64, 48, 32),
        critic_condition="project",
        critic_channels=(32, 64, 96, 128),
        critic_features=128,
        code_features=(64, 16),
        normalise=True,
        output="movement",
        source_reading=True,
    )
    system = _moving(network, controller_images=131_072, refinement_images=65_536)
    data = DataConfig(image_size=64, global_batch_images=16)
    return RunConfig(system_name="exprgan", recipe="small", system=system, data=data)


def tiny() -> RunConfig:
    """Drawn faces at 48 px in about two minutes on two CPU cores."""
    network = NetworkConfig(
        latent_dims=16,
        kernel_size=3,
        encoder_channels=(16, 32, 64, 64),
        decoder_channels=(64, 48, 32, 24),
        critic_condition="project",
        critic_channels=(24, 48, 64, 96),
        critic_features=128,
        code_features=(64, 16),
        normalise=True,
        output="movement",
        source_reading=True,
    )
    system = _moving(network, controller_images=65_536, refinement_images=16_384)
    data = DataConfig(image_size=48, global_batch_images=16)
    return RunConfig(system_name="exprgan", recipe="tiny", system=system, data=data)


def _moving(
    network: NetworkConfig, *, controller_images: int, refinement_images: int
) -> ExprganConfig:
    """First the critic learns to read classes; then faces are moved until it reads the wanted one.

    There is no stage of reconstruction: a face that is not moved is reconstructed.
    """
    return ExprganConfig(
        network=network,
        code=CodeConfig(dims_per_class=1, least_magnitude=0.5, neutral_is_zero=True),
        view=ViewConfig(grey=True, mirror=True, shift_pixels=2, light=0.06, gain=0.2, grain=0.02),
        edit_faces=True,
        weights=Weights(
            pixel=2.0,
            identity=0.5,
            expression_code=0.1,
            adversarial_image=0.2,
            adversarial_latent=0.001,
            tv=0.001,
            edit_class=0.5,
            shift=4.0,
            light=4.0,
            critic_class=1.0,
            critic_mismatch=0.2,
            critic=0.2,
            latent_critic=0.1,
        ),
        controller_weights=ControllerWeights(
            expression_code=0.0, adversarial_image=0.0, critic=0.0, expression_code_critic=0.0
        ),
        optimizer=_annealed(2e-3),
        critic_optimizer=_annealed(5e-4),
        latent_critic_optimizer=_annealed(5e-4),
        ema_halflife_images=1000,
        controller_images=controller_images,
        controller_batch_images=32,
        reconstruction_images=0,
        refinement_images=refinement_images,
        identity_shape="lightcnn9",
        identity_width=0.125,
        identity_betas=(),
        identity_embedding=1.0,
    )


def _annealed(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"), betas=(0.5, 0.99)
    )

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
    ReconstructionWeights,
    Weights,
)
from trainer.systems.exprgan.scramble import ScrambleConfig


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
        latent_dims=128,
        kernel_size=3,
        encoder_channels=(24, 48, 96, 128),
        decoder_channels=(128, 96, 64, 48),
        critic_condition="project",
        critic_channels=(24, 48, 96, 128),
        critic_features=128,
        code_features=(64, 32),
        normalise=True,
        skips=True,
        output="warp",
    )
    system = _restoring(network, images=131_072)
    data = DataConfig(image_size=64, global_batch_images=32)
    return RunConfig(system_name="exprgan", recipe="small", system=system, data=data)


def tiny() -> RunConfig:
    """Drawn faces at 48 px in about two minutes on two CPU cores."""
    network = NetworkConfig(
        latent_dims=64,
        kernel_size=3,
        encoder_channels=(16, 32, 64, 64),
        decoder_channels=(64, 64, 32, 32),
        critic_condition="project",
        critic_channels=(24, 48, 64, 96),
        critic_features=128,
        code_features=(64, 16),
        normalise=True,
        skips=True,
        output="warp",
    )
    system = _restoring(network, images=40_960)
    data = DataConfig(image_size=48, global_batch_images=32)
    return RunConfig(system_name="exprgan", recipe="tiny", system=system, data=data)


def _restoring(network: NetworkConfig, *, images: int) -> ExprganConfig:
    """The generator learns from scrambled faces; the critics' weights are small beside that."""
    critic_optimizer = OptimizerConfig(learning_rate=5e-4, betas=(0.5, 0.99))
    return ExprganConfig(
        network=network,
        code=CodeConfig(dims_per_class=1, least_magnitude=0.7, neutral_is_zero=True),
        scramble=ScrambleConfig(mouth=0.6, eyes=0.4, warp=0.12),
        weights=Weights(
            pixel=2.0,
            edge=1.0,
            identity=0.0,
            expression_code=0.05,
            adversarial_image=0.02,
            adversarial_latent=0.001,
            edit_identity=0.2,
            repaint=0.02,
            critic_mismatch=1.0,
        ),
        controller_weights=ControllerWeights(),
        reconstruction_weights=ReconstructionWeights(),
        optimizer=OptimizerConfig(
            learning_rate=Ramp(start=1e-3, end=0.0, shape="cosine"), betas=(0.5, 0.99)
        ),
        critic_optimizer=critic_optimizer,
        latent_critic_optimizer=critic_optimizer,
        controller_images=0,
        reconstruction_images=0,
        refinement_images=images,
        identity_shape="lightcnn9",
        identity_width=0.125,
        identity_betas=(1.0, 1.0, 1.0, 1.0),
    )

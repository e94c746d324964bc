"""ExprGAN's recipes: the paper's sizes and weights, photographs, and drawn faces."""

from __future__ import annotations

from dataclasses import replace

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig, weights_of
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

_RELEASED_SIDES = (224, 112, 56, 28, 14)
"""Of VGG-Face's maps. The release divides each map's mean distance by its H x W once more."""


def paper() -> RunConfig:
    """The released sizes at 128 px colour, Oulu-CASIA's 1,296 training images a fold.

    Stage 1: 200 epochs in batches of 60; stages 2 and 3: 50 epochs each in batches of 48; Adam at
    2e-4 for all three players. It needs a VGG-Face as `system.identity_network`.
    """
    betas = tuple(side**-2 for side in _RELEASED_SIDES)
    system = ExprganConfig(controller_batch_images=60, identity_betas=betas)
    augment = AugmentConfig(crop_shift_pixels=0)
    data = DataConfig(image_size=128, global_batch_images=48, augment=augment)
    return RunConfig(system_name="exprgan", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """Photographs at 64 px on two CPU cores: as `tiny`, wider and longer."""
    network = _network(24, critic_channels=(32, 64, 96, 128), latent_dims=32)
    system = _paired(network, controller_images=65_536, refinement_images=65_536)
    data = DataConfig(image_size=64, global_batch_images=16, augment=_AUGMENT)
    return RunConfig(system_name="exprgan", recipe="small", system=system, data=data)


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in three minutes on two CPU cores."""
    network = _network(16, critic_channels=(16, 32, 64, 96), latent_dims=16)
    system = _paired(network, controller_images=8_192, refinement_images=12_288)
    data = DataConfig(image_size=48, global_batch_images=16, augment=_AUGMENT)
    return RunConfig(system_name="exprgan", recipe="tiny", system=system, data=data)


def tiny_joint() -> RunConfig:
    """`tiny` without its curriculum: all players and the full objective from the first step on.

    It sees as many images, in one stage.
    """
    run = tiny()
    system = run.system
    ends = {
        name: weight.end for name, weight in weights_of(run).items() if isinstance(weight, Ramp)
    }
    system = replace(
        system,
        weights=replace(system.weights, **ends),
        controller_images=0,
        refinement_images=system.controller_images + system.refinement_images,
    )
    return replace(run, recipe="tiny_joint", system=system)


_AUGMENT = AugmentConfig(crop_shift_pixels=1)


def _network(width: int, *, critic_channels: tuple[int, ...], latent_dims: int) -> NetworkConfig:
    return NetworkConfig(
        latent_dims=latent_dims,
        kernel_size=3,
        encoder_channels=(width, 2 * width, 3 * width, 4 * width),
        decoder_channels=(4 * width, 3 * width, 2 * width, width, width),
        critic_condition="project",
        critic_channels=critic_channels,
        critic_pooling=True,
        critic_features=128,
        code_features=(64, 16),
        output="residual",
        skips=True,
        place_code=True,
    )


def _paired(
    network: NetworkConfig, *, controller_images: int, refinement_images: int
) -> ExprganConfig:
    """First the critic learns to read classes; then pairs and its reading teach to edit.

    There is no stage of reconstruction: a face in which nothing changes is reconstructed.
    """
    return ExprganConfig(
        network=network,
        code=CodeConfig(dims_per_class=1, neutral_is_zero=True),
        view=ViewConfig(mirror=True, shift_pixels=3, light=0.1, gain=0.2, grain=0.05),
        edit_faces=True,
        weights=Weights(
            pixel=0.05,
            identity=0.01,
            expression_code=_after_pairs(0.0005),
            adversarial_image=_after_pairs(0.001),
            adversarial_latent=0.0001,
            tv=0.0001,
            edit_class=_after_pairs(0.01),
            pair=0.25,
            pair_smooth=10.0,
            critic_class=1.0,
            critic=0.2,
            latent_critic=0.1,
        ),
        controller_weights=ControllerWeights(
            expression_code=0.0, adversarial_image=0.0, critic=0.0, expression_code_critic=0.0
        ),
        optimizer=_annealed(3e-3),
        critic_optimizer=_annealed(2e-3),
        latent_critic_optimizer=_annealed(5e-4),
        ema_halflife_images=100,
        controller_images=controller_images,
        controller_batch_images=16,
        reconstruction_images=0,
        refinement_images=refinement_images,
        identity_shape="lightcnn9",
        identity_width=0.125,
        identity_betas=(),
        identity_embedding=1.0,
    )


def _after_pairs(weight: float) -> Ramp:
    """First pairs show where a face changes; then what reads it says how far."""
    return Ramp(start=0.0, end=weight, begin=0.3, finish=0.5)


def _annealed(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"), betas=(0.9, 0.99)
    )

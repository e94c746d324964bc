"""TER-GAN's recipes."""

from __future__ import annotations

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.ter_gan.config import NetworkConfig, TerGanConfig, Weights


def paper() -> RunConfig:
    """128 px colour; sizes, weights and length are ours, for the abstract gives none."""
    data = DataConfig(image_size=128, global_batch_images=32)
    return RunConfig(system_name="ter_gan", recipe="paper", system=TerGanConfig(), data=data)


def small() -> RunConfig:
    """Photographs at 64 px on two CPU cores."""
    return _run("small", 24, image_size=64, images=65_536)


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in three minutes on two CPU cores."""
    return _run("tiny", 12, image_size=48, images=20_480)


def _run(recipe: str, width: int, *, image_size: int, images: int) -> RunConfig:
    widths = (width, 2 * width, 4 * width)
    system = TerGanConfig(
        network=NetworkConfig(
            encoder_channels=widths,
            critic_channels=(*widths, 4 * width),
            expression_features=16,
            identity_features=64,
            output="residual",
            skips=True,
        ),
        weights=Weights(
            adversarial=0.02,
            synthetic_class=0.3,
            reconstruction=4.0,
            identity_class=0.3,
            identity_consistency=0.02,
        ),
        optimizer=_annealed(2e-3),
        critic_optimizer=_annealed(1e-3),
        ema_halflife_images=200,
        images=images,
    )
    augment = AugmentConfig(crop_shift_pixels=1)
    data = DataConfig(image_size=image_size, global_batch_images=16, augment=augment)
    return RunConfig(system_name="ter_gan", recipe=recipe, system=system, data=data)


def _annealed(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"), betas=(0.5, 0.99)
    )

"""Recipes: critics at 32 px, at 64 px and at both, and the same at a quarter and a half of less."""

from __future__ import annotations

from dataclasses import replace

from data_service.transforms import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.presets import PHOTO_CLASSES, annealed
from trainer.system import OptimizerConfig
from trainer.systems.multilevel_critic.config import (
    MultilevelCriticConfig,
    NetworkConfig,
    Weights,
)


def paper() -> RunConfig:
    """Final images of 128 px, critics at 32 and 64 px; sizes and optimiser are ours.

    200 epochs of CFEE's 1,610 faces in batches of 16; Adam as in DCGAN.
    """
    optimizer = OptimizerConfig(learning_rate=2e-4, betas=(0.5, 0.999))
    system = MultilevelCriticConfig(optimizer=optimizer, critic_optimizer=optimizer, images=322_000)
    data = DataConfig(
        image_size=128, global_batch_images=16, augment=AugmentConfig(crop_shift_pixels=0)
    )
    return RunConfig(system_name="multilevel_critic", recipe="paper", system=system, data=data)


def paper_32() -> RunConfig:
    """Of the ablation: critics at 32 px alone."""
    return _with_levels(paper(), "paper_32", (32,))


def paper_64() -> RunConfig:
    """Of the ablation: critics at 64 px alone."""
    return _with_levels(paper(), "paper_64", (64,))


def paper_pose() -> RunConfig:
    """Expression and yaw of the head, for corpora that know it (RaFD, KDEF, drawn)."""
    run = paper()
    return replace(run, recipe="paper_pose", system=replace(run.system, pose=True))


def small() -> RunConfig:
    """Photographs at 48 px, grey, five classes; critics at 12 and 24 px.

    Few subjects have two expressions there: without a pair a face only has to fool D and D_P.
    """
    run = tiny()
    system = replace(run.system, balance=True, images=32_768)
    augment = AugmentConfig(crop_shift_pixels=3)
    data = replace(run.data, classes=PHOTO_CLASSES, grey=True, augment=augment)
    return replace(run, recipe="small", system=system, data=data)


def small_coarse() -> RunConfig:
    """`small` with critics at 12 px alone."""
    return _with_levels(small(), "small_coarse", (12,))


def small_fine() -> RunConfig:
    """`small` with critics at 24 px alone."""
    return _with_levels(small(), "small_fine", (24,))


_SHORT = Weights(
    adversarial=0.02,
    photo=0.02,
    variation=0.02,
    pixel=0.5,
    smooth=10.0,
)
"""A short training follows its pairs; critics add what their means leave out."""


def tiny() -> RunConfig:
    """Drawn faces at 48 px in three minutes on a core; critics at 12 and 24 px."""
    network = NetworkConfig(
        channels=(16, 32, 48, 64),
        num_blocks=1,
        norm="none",
        output="residual",
        critic_channels=(16, 32, 48),
        level_channels=(16, 32),
    )
    system = MultilevelCriticConfig(
        levels=(12, 24),
        network=network,
        weights=_SHORT,
        optimizer=annealed(2e-3),
        critic_optimizer=OptimizerConfig(learning_rate=5e-4, betas=(0.5, 0.99)),
        ema_halflife_images=500,
        images=12_288,
    )
    data = DataConfig(
        image_size=48, global_batch_images=16, augment=AugmentConfig(crop_shift_pixels=1)
    )
    return RunConfig(system_name="multilevel_critic", recipe="tiny", system=system, data=data)


def tiny_coarse() -> RunConfig:
    """`tiny` with critics at 12 px alone, a quarter of the side as 32 px are of 128."""
    return _with_levels(tiny(), "tiny_coarse", (12,))


def tiny_fine() -> RunConfig:
    """`tiny` with critics at 24 px alone, half of the side as 64 px are of 128."""
    return _with_levels(tiny(), "tiny_fine", (24,))


def tiny_final() -> RunConfig:
    """`tiny` with the final discriminator alone."""
    run = _with_levels(tiny(), "tiny_final", ())
    off = {"photo": 0.0, "variation": 0.0, "critic_photo": 0.0, "critic_variation": 0.0}
    weights = replace(run.system.weights, **off)
    return replace(run, system=replace(run.system, weights=weights))


def tiny_pose() -> RunConfig:
    """`tiny` with the yaw of the head as a second target."""
    run = tiny()
    return replace(run, recipe="tiny_pose", system=replace(run.system, pose=True))


def _with_levels(run: RunConfig, recipe: str, levels: tuple[int, ...]) -> RunConfig:
    return replace(run, recipe=recipe, system=replace(run.system, levels=levels))

"""Recipes of the cascade; the paper's sizes are unknown."""

from __future__ import annotations

from dataclasses import replace

from data_service.transforms import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.presets import PHOTO_DATA, annealed
from trainer.systems.cascade_gabor.config import CascadeGaborConfig, GaborConfig


def paper() -> RunConfig:
    """FER2013's faces at 48 px, grey: 40 filters of 5 scales and 8 directions; 40 epochs a model.

    Order, Gabor filters and cascade are the paper's; networks and training are ours.
    """
    system = CascadeGaborConfig(
        channels=(64, 128, 256, 512), optimizer=annealed(1e-3), images=1_148_352
    )
    augment = AugmentConfig(crop_shift_pixels=4, rotation_degrees=10.0, scale=0.1)
    data = DataConfig(image_size=48, global_batch_images=128, grey=True, augment=augment)
    return RunConfig(system_name="cascade_gabor", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """Photographs at 48 px, grey, five classes: happiness, surprise, neutral, then sadness."""
    system = CascadeGaborConfig(
        gabor=GaborConfig(scales=4, orientations=6, kernel_size=11),
        channels=(32, 64, 96),
        dropout=0.3,
        optimizer=annealed(2e-3),
        images=10_240,
    )
    return RunConfig(system_name="cascade_gabor", recipe="small", system=system, data=PHOTO_DATA)


def small_plain() -> RunConfig:
    """`small` with plain convolutions where the Gabor filters stand."""
    run = small()
    gabor = replace(run.system.gabor, kind="none")
    return replace(run, recipe="small_plain", system=replace(run.system, gabor=gabor))


def tiny() -> RunConfig:
    """Drawn faces at 48 px, half a minute for each model on a core."""
    system = CascadeGaborConfig(
        gabor=GaborConfig(kind="learned", scales=3, orientations=4, kernel_size=9),
        channels=(16, 32),
        dropout=0.1,
        optimizer=annealed(4e-3),
        images=4096,
    )
    augment = AugmentConfig(crop_shift_pixels=2)
    data = DataConfig(image_size=48, global_batch_images=32, augment=augment)
    return RunConfig(system_name="cascade_gabor", recipe="tiny", system=system, data=data)

"""Recipes of pixel-based synthesis. Faces are neither moved nor mirrored: a pixel is a place."""

from __future__ import annotations

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.systems.pixel_fes.system import PixelFesConfig


def paper() -> RunConfig:
    """128 px colour, neutral faces to each expression; ridge 0.4 as in the authors' example."""
    return _run("paper", PixelFesConfig(source="neutral", images=40_960), image_size=128)


def small() -> RunConfig:
    """Photographs at 64 px, windows of 3 x 3, from any expression to any."""
    return _run("small", PixelFesConfig(receptive_field=3, ridge=2.0), image_size=64)


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in seconds."""
    return _run("tiny", PixelFesConfig(images=8_192), image_size=48)


def _run(recipe: str, system: PixelFesConfig, *, image_size: int) -> RunConfig:
    augment = AugmentConfig(crop_shift_pixels=0, flip=0.0)
    data = DataConfig(image_size=image_size, global_batch_images=32, augment=augment)
    return RunConfig(system_name="pixel_fes", recipe=recipe, system=system, data=data)

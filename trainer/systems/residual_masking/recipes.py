"""Recipes of the Residual Masking Network: as published, and narrow ones for a CPU core."""

from __future__ import annotations

from dataclasses import replace

from data_service.transforms import AugmentConfig
from trainer.config import DataConfig, EvaluationConfig, RunConfig
from trainer.presets import PHOTO_DATA, annealed
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.residual_masking.config import (
    GateConfig,
    NetworkConfig,
    ResidualMaskingConfig,
)


def paper() -> RunConfig:
    """ResNet-34 with four masks on FER2013, 224 px, grey, batches of 48, at most 50 epochs.

    Stops after 8 epochs without a better validation accuracy. The rate starts at 1e-4; it falls
    along a cosine where the release waits for a plateau.
    """
    rate = Ramp(start=1e-4, end=1e-6, shape="cosine")
    optimizer = OptimizerConfig(learning_rate=rate, betas=(0.9, 0.999), weight_decay=1e-3)
    system = ResidualMaskingConfig(optimizer=optimizer, images=1_435_440)
    augment = AugmentConfig(crop_shift_pixels=0, flip=0.5, rotation_degrees=30.0)
    return RunConfig(
        system_name="residual_masking",
        recipe="paper",
        system=system,
        data=DataConfig(image_size=224, global_batch_images=48, grey=True, augment=augment),
        evaluation=EvaluationConfig(every_images=28_704, select="accuracy", patience=8 * 28_704),
    )


def small() -> RunConfig:
    """A quarter of ResNet-18's width on photographs: 48 px, grey, five classes."""
    system = ResidualMaskingConfig(
        network=NetworkConfig(shape="resnet18", width=0.25, stem="small", dropout=0.3),
        optimizer=annealed(2e-3),
        class_power=0.5,
        images=27_008,
    )
    return RunConfig(system_name="residual_masking", recipe="small", system=system, data=PHOTO_DATA)


def small_unmasked() -> RunConfig:
    """The backbone of `small` without its masks."""
    run = small()
    gates = GateConfig(stage_1=False, stage_2=False, stage_3=False, stage_4=False)
    return replace(run, recipe="small_unmasked", system=replace(run.system, gates=gates))


def tiny() -> RunConfig:
    """An eighth of ResNet-18's width on drawn faces at 32 px.

    Its masks are shallow: on maps this small, deeper U-Nets magnify rounding a hundred times.
    """
    system = ResidualMaskingConfig(
        network=NetworkConfig(
            shape="resnet18", width=0.125, stem="small", mask_depths=(2, 2, 1, 1), dropout=0.2
        ),
        optimizer=annealed(3e-3),
        images=8192,
    )
    augment = AugmentConfig(crop_shift_pixels=2)
    data = DataConfig(image_size=32, global_batch_images=32, augment=augment)
    return RunConfig(system_name="residual_masking", recipe="tiny", system=system, data=data)

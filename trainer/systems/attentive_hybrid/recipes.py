"""Recipes of the attentive hybrid architecture."""

from __future__ import annotations

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.attentive_hybrid.config import HybridConfig, NetworkConfig


def paper() -> RunConfig:
    """ResNet-18 branches at 224 px; RAF-DB's 12,271 training images, 60 epochs. Rates are ours."""
    data = DataConfig(image_size=224, global_batch_images=64)
    system = HybridConfig(optimizer=_annealed(1e-3))
    return RunConfig(system_name="attentive_hybrid", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """Photographs at 48 px on two CPU cores: plain trunks."""
    network = NetworkConfig(
        trunk="plain",
        global_widths=(24, 48, 96, 128),
        local_widths=(16, 32, 64),
        region_side=20,
        hidden=64,
    )
    return _run("small", network, images=40_960)


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in a minute on two CPU cores."""
    network = NetworkConfig(
        trunk="plain",
        global_widths=(12, 24, 48, 64),
        local_widths=(12, 24, 32),
        region_side=16,
        hidden=32,
    )
    return _run("tiny", network, images=24_576)


def _run(recipe: str, network: NetworkConfig, *, images: int) -> RunConfig:
    system = HybridConfig(network=network, optimizer=_annealed(4e-3), images=images)
    augment = AugmentConfig(crop_shift_pixels=2)
    data = DataConfig(image_size=48, global_batch_images=32, augment=augment)
    return RunConfig(system_name="attentive_hybrid", recipe=recipe, system=system, data=data)


def _annealed(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        name="adamw",
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"),
        betas=(0.9, 0.99),
        weight_decay=0.02,
    )

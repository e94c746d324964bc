"""Recipes of the identity system: the published size, and two that two CPU cores can train."""

from __future__ import annotations

from trainer.config import DataConfig, RunConfig
from trainer.presets import annealed
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.identity.system import IdentityConfig


def paper() -> RunConfig:
    """LightCNN-9 at 128 px, grey, softmax with dropout 0.7, SGD (TIFS 2018, section IV-A).

    It is meant for a corpus of the size of MS-Celeb-1M; the published weights can be had without
    training, by giving their file as `system.identity_network`.
    """
    optimizer = OptimizerConfig(
        name="sgd",
        learning_rate=Ramp(start=1e-3, end=5e-5, shape="cosine"),
        momentum=0.9,
        weight_decay=5e-4,
    )
    system = IdentityConfig(dropout=0.7, optimizer=optimizer, images=100_000_000)
    data = DataConfig(image_size=128, global_batch_images=128, grey=True)
    return RunConfig(system_name="identity", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """A quarter of LightCNN-9's width with a cosine margin: photographs on two CPU cores."""
    system = IdentityConfig(width=0.25, head="cosine", optimizer=annealed(2e-3), images=65_536)
    data = DataConfig(image_size=48, global_batch_images=32)
    return RunConfig(system_name="identity", recipe="small", system=system, data=data)


def tiny() -> RunConfig:
    """Drawn subjects at 48 px in about half a minute on two CPU cores."""
    system = IdentityConfig(width=0.125, head="cosine", optimizer=annealed(3e-3), images=16_384)
    data = DataConfig(image_size=48, global_batch_images=32)
    return RunConfig(system_name="identity", recipe="tiny", system=system, data=data)

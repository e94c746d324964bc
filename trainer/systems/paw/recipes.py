"""PaW's recipes, and its halves alone, for comparison."""

from __future__ import annotations

from dataclasses import replace

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.paw.config import NetworkConfig, PawConfig

NAMES = ("paper", "small", "tiny", "tiny_whole", "tiny_part")
DRAWN_ATTRIBUTES = (
    "bald", "beard", "fringe", "glasses", "long", "makeup", "moustache", "occluder",
)  # fmt: skip
"""What drawn people have and lack."""


def paper() -> RunConfig:
    """All attributes of the lake (40 on CelebA) at 128 px; ten epochs a stage. Sizes are ours."""
    system = PawConfig(optimizer=_annealed(1e-3), joint_optimizer=_annealed(1e-3))
    return _run("paper", system, image_size=128, batch=64)


def small() -> RunConfig:
    """Drawn scenes at 96 px on two CPU cores."""
    network = NetworkConfig(
        localisers=2,
        localiser_widths=(16, 32, 48, 64),
        part_widths=(8, 16, 24),
        whole_widths=(16, 32, 64, 96),
        teacher_widths=(32, 64, 96, 128),
        part_side=32,
    )
    return _run("small", _drawn(network, images=40_960), image_size=96)


def tiny() -> RunConfig:
    """Drawn scenes at 64 px, in a minute on two CPU cores."""
    network = NetworkConfig(
        localisers=2,
        localiser_widths=(8, 16, 24, 32),
        part_widths=(6, 12, 16),
        whole_widths=(8, 16, 32, 48),
        teacher_widths=(16, 32, 48, 64),
        part_side=20,
    )
    return _run("tiny", _drawn(network, images=8_192), image_size=64, batch=16)


def tiny_whole() -> RunConfig:
    """The whole subnet alone, with teacher and relation layer, as long as it learns in `tiny`."""
    return _without(tiny(), "tiny_whole", localisation=0.0, part=0.0)


def tiny_part() -> RunConfig:
    """The part subnets alone, with localisers and relation layer."""
    return _without(tiny(), "tiny_part", teacher=0.0, whole=0.0, hint=0.0)


def _without(run: RunConfig, recipe: str, **weights: float) -> RunConfig:
    system = replace(run.system, weights=replace(run.system.weights, **weights))
    if "localisation" in weights:
        system = replace(system, localise_images=0)
    if "teacher" in weights:
        system = replace(system, teacher_images=0)
    return replace(run, recipe=recipe, system=system)


def _drawn(network: NetworkConfig, *, images: int) -> PawConfig:
    return PawConfig(
        attributes=DRAWN_ATTRIBUTES,
        network=network,
        optimizer=_annealed(4e-3),
        joint_optimizer=_annealed(4e-3),
        localise_images=images,
        teacher_images=images,
        separate_images=images,
        joint_images=images // 2,
    )


def _run(recipe: str, system: PawConfig, *, image_size: int, batch: int = 32) -> RunConfig:
    augment = AugmentConfig(crop_shift_pixels=2)
    data = DataConfig(image_size=image_size, global_batch_images=batch, augment=augment)
    return RunConfig(system_name="paw", recipe=recipe, system=system, data=data)


def _annealed(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        name="adamw",
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"),
        betas=(0.9, 0.99),
        weight_decay=0.02,
    )

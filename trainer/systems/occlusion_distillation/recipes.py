"""Recipes of occlusion distillation, and its students without a teacher, for comparison.

The batches of students show three faces a sample: itself, its positive and its negative.
"""

from __future__ import annotations

from dataclasses import replace

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.occlusion_distillation.config import (
    DistillationConfig,
    NetworkConfig,
    Weights,
)

NAMES = ("paper", "small", "tiny", "tiny_without_teacher")


def paper() -> RunConfig:
    """VGG-Face at 224 px, the upper half hidden; ten epochs of FER+'s 28,000 training images.

    Meant to start from VGG-Face: by `--init RUN` of an `identity` with `system.shape=vggface`, as
    wide and for faces as large, with `--init-map player/network/backbone.=player/teacher/trunk.`;
    or by `--init FILE` of published weights (*.safetensors), with `--init-map
    =player/teacher/trunk.`. The same for `player/soft/` and `player/triplet/` starts the students.
    Rates and epochs are ours: no source.
    """
    system = DistillationConfig(optimizer=_annealed(1e-4), classifier_optimizer=_annealed(1e-3))
    data = DataConfig(image_size=224, global_batch_images=32)
    return RunConfig(system_name="occlusion_distillation", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """Photographs at 48 px on two CPU cores, a plain trunk."""
    return _run("small", (24, 48, 96, 128), teacher=40_960, student=40_960, joined=10_240)


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in a minute on two CPU cores."""
    return _run("tiny", (12, 24, 48, 64), teacher=12_288, student=12_288, joined=2_048, batch=16)


def tiny_without_teacher() -> RunConfig:
    """Both students learn from labels alone, as long and with the same classifier."""
    run = tiny()
    weights = Weights(label=1.0, distillation=0.0, triplet=0.0, triplet_label=1.0)
    system = replace(run.system, weights=weights, teacher_images=0)
    return replace(run, recipe="tiny_without_teacher", system=system)


def _run(
    recipe: str,
    widths: tuple[int, ...],
    *,
    teacher: int,
    student: int,
    joined: int,
    batch: int = 32,
) -> RunConfig:
    system = DistillationConfig(
        network=NetworkConfig(shape="plain", widths=widths),
        weights=Weights(triplet_label=1.0),
        optimizer=_annealed(3e-3),
        classifier_optimizer=_annealed(3e-3),
        teacher_images=teacher,
        student_images=student,
        joined_images=joined,
    )
    augment = AugmentConfig(crop_shift_pixels=2)
    data = DataConfig(image_size=48, global_batch_images=batch, augment=augment)
    return RunConfig(system_name="occlusion_distillation", recipe=recipe, system=system, data=data)


def _annealed(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        name="adamw",
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"),
        betas=(0.9, 0.99),
        weight_decay=0.02,
    )

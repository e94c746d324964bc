"""FN2EN's recipes: each size as the paper's method, from scratch, and the face network fine-tuned.

Variants of a size see the same images with labels; FN2EN sees as many again without.
"""

from __future__ import annotations

from dataclasses import replace

from data_service.transforms import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.presets import PHOTO_DATA, annealed
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.fn2en.config import Fn2enConfig, NetworkConfig


def paper() -> RunConfig:
    """The reconstruction of section 4 in `facts`: 224 px, VGG-Face as `system.identity_network`.

    In each stage 50 epochs of the 1,177 images that a fold of CK+ does not test, in batches of 64
    (ours holds some of them out for validation); SGD with momentum 0.9, weight decay 5e-4, one drop
    of the rate (all unconfirmed).
    """
    rate = Ramp(start=0.01, end=0.001, begin=0.6, finish=0.601)
    optimizer = OptimizerConfig(name="sgd", learning_rate=rate, weight_decay=5e-4, clip_norm=10.0)
    system = Fn2enConfig(
        optimizer=optimizer, regularisation_images=58_880, refinement_images=58_880
    )
    augment = AugmentConfig(crop_shift_pixels=16, flip=0.5)
    data = DataConfig(image_size=224, global_batch_images=64, augment=augment)
    return RunConfig(system_name="fn2en", recipe="paper", system=system, data=data)


def paper_scratch() -> RunConfig:
    """The same network without stage 1: the paper's "train from scratch (BN)"."""
    return _scratch(paper())


def paper_finetuned() -> RunConfig:
    """VGG-Face itself, trained further as a classifier at a tenth of the rate."""
    return _finetuned(paper(), 0.001)


def small() -> RunConfig:
    """Real photographs on a CPU core: 48 px, grey, five classes, a run of `identity.small`."""
    network = NetworkConfig(
        channels=(16, 32, 64, 96),
        response_channels=32,
        response_norm=True,
        dense_features=64,
        dropout=0.3,
    )
    system = Fn2enConfig(
        network=network,
        optimizer=annealed(2e-3),
        regularisation_images=16_384,
        refinement_images=16_384,
        class_power=0.5,
        identity_shape="lightcnn9",
        identity_width=0.25,
    )
    return RunConfig(system_name="fn2en", recipe="small", system=system, data=PHOTO_DATA)


def small_scratch() -> RunConfig:
    """`small` without stage 1 and without a face network."""
    return _scratch(small())


def small_finetuned() -> RunConfig:
    """The face network of `small`, trained further."""
    return _finetuned(small(), 1e-3)


def tiny() -> RunConfig:
    """Few drawn faces, in a minute on a core; the face network is a run of `identity`."""
    network = NetworkConfig(
        channels=(16, 24, 32, 48),
        response_channels=32,
        response_norm=True,
        dense_features=48,
        dropout=0.3,
    )
    system = Fn2enConfig(
        network=network,
        optimizer=annealed(3e-3),
        regularisation_images=8192,
        refinement_images=8192,
        identity_shape="lightcnn9",
        identity_width=0.25,
    )
    augment = AugmentConfig(crop_shift_pixels=3, brightness=0.1, contrast=0.1)
    data = DataConfig(image_size=48, global_batch_images=32, augment=augment)
    return RunConfig(system_name="fn2en", recipe="tiny", system=system, data=data)


def tiny_scratch() -> RunConfig:
    """`tiny` without stage 1 and without a face network."""
    return _scratch(tiny())


def tiny_finetuned() -> RunConfig:
    """The face network of `tiny`, trained further."""
    return _finetuned(tiny(), 1e-3)


def _scratch(run: RunConfig) -> RunConfig:
    system = replace(run.system, regularisation_images=0)
    return replace(run, recipe=f"{run.recipe}_scratch", system=system)


def _finetuned(run: RunConfig, rate: float) -> RunConfig:
    old = run.system.optimizer
    schedule = replace(old.learning_rate, start=rate, end=old.learning_rate.end and rate / 10)
    optimizer = replace(old, learning_rate=schedule)
    system = replace(run.system, learner="face", regularisation_images=0, optimizer=optimizer)
    return replace(run, recipe=f"{run.recipe}_finetuned", system=system)

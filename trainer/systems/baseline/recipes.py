"""Recipes of the baseline: the published networks, and those that a CPU core trains in minutes."""

from __future__ import annotations

from dataclasses import replace

from data_service.transforms import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.presets import PHOTO_DATA, annealed
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.baseline.config import BaselineConfig, NetworkConfig


def paper() -> RunConfig:
    """ResNet-18 from scratch at 224 px: SGD from 0.1 in batches of 256 (CVPR 2016, section 3.4).

    Ours: a cosine in place of the steps of the rate, and 60 epochs of a corpus of RAF-DB's size.
    """
    system = BaselineConfig(optimizer=_sgd(0.1, weight_decay=1e-4), images=736_000)
    augment = AugmentConfig(crop_shift_pixels=16)
    data = DataConfig(image_size=224, global_batch_images=256, augment=augment)
    return RunConfig(system_name="baseline", recipe="paper", system=system, data=data)


def paper_alexnet() -> RunConfig:
    """AlexNet in one tower at 224 px: dropout 0.5, SGD from 0.01, batches of 128."""
    system = BaselineConfig(
        network=NetworkConfig(shape="alexnet", dropout=0.5),
        optimizer=_sgd(0.01, weight_decay=5e-4),
        images=736_000,
    )
    run = paper()
    data = replace(run.data, global_batch_images=128)
    return replace(run, recipe="paper_alexnet", system=system, data=data)


def paper_vgg13() -> RunConfig:
    """VGG-13 of FER+ (Barsoum et al., ICMI 2016): 64 px, grey, dropout after each group.

    100 epochs of 28,559 faces; the rate of their code falls from 0.05 to 0.01 and 0.001.
    """
    rate = Ramp(start=0.05, end=0.001, shape="cosine")
    system = BaselineConfig(
        network=NetworkConfig(shape="vgg13", conv_dropout=0.25, dropout=0.5),
        optimizer=OptimizerConfig(name="sgd", learning_rate=rate, momentum=0.9),
        images=2_855_900,
    )
    augment = AugmentConfig(crop_shift_pixels=4, rotation_degrees=20.0, scale=0.2)
    data = DataConfig(image_size=64, global_batch_images=32, grey=True, augment=augment)
    return RunConfig(system_name="baseline", recipe="paper_vgg13", system=system, data=data)


def small() -> RunConfig:
    """The plain CNN on real photographs: 48 px, grey, five classes, 25 epochs of about 1,080 faces.

    Rare classes weigh by the root of their number, as a compromise between accuracy and recall.
    """
    network = NetworkConfig(shape="plain", conv_dropout=0.0, dropout=0.3)
    system = BaselineConfig(
        network=network, optimizer=annealed(2e-3), class_power=0.5, images=27_008
    )
    return RunConfig(system_name="baseline", recipe="small", system=system, data=PHOTO_DATA)


def small_resnet18() -> RunConfig:
    """A quarter of ResNet-18's width on the faces of `small`."""
    run = small()
    network = NetworkConfig(shape="resnet18", width=0.25, stem="small", dropout=0.3)
    return replace(run, recipe="small_resnet18", system=replace(run.system, network=network))


def tiny() -> RunConfig:
    """The plain CNN at half width on drawn faces, in about half a minute on a core."""
    network = NetworkConfig(shape="plain", width=0.5, plain_channels=(32, 64, 128))
    system = BaselineConfig(network=network, optimizer=annealed(3e-3), images=8192)
    augment = AugmentConfig(crop_shift_pixels=2)
    data = DataConfig(image_size=48, global_batch_images=32, augment=augment)
    return RunConfig(system_name="baseline", recipe="tiny", system=system, data=data)


def _sgd(rate: float, *, weight_decay: float) -> OptimizerConfig:
    learning_rate = Ramp(start=rate, end=0.0, shape="cosine")
    return OptimizerConfig(name="sgd", learning_rate=learning_rate, weight_decay=weight_decay)

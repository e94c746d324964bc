"""OADN's recipes, and its backbone alone, for comparison."""

from __future__ import annotations

from dataclasses import replace

from data_service.crops import AugmentConfig
from trainer.config import DataConfig, RunConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.oadn.config import (
    GateConfig,
    NetworkConfig,
    OadnConfig,
    OcclusionConfig,
    Weights,
)

NAMES = ("paper", "small", "tiny", "tiny_backbone")


def paper() -> RunConfig:
    """ResNet-50 at 224 px; RAF-DB's 12,271 training images, 60 epochs in batches of 64, SGD.

    The trunk moves at a tenth of the heads' rate; it is meant to start from a face-recognition or
    ImageNet network. `identity` has none of its shape: `--init` takes a file of such a ResNet-50
    whose parameters are named as in nets/resnet.py, with `--init-map =player/network/trunk.`; or,
    with `system.network.trunk=resnet18`, a run of `baseline.paper` on another corpus, with
    `--init-map player/classifier/trunk.=player/network/trunk.`.
    """
    optimizer = OptimizerConfig(
        name="sgd",
        learning_rate=Ramp(start=1e-3, end=1e-6, shape="cosine"),
        momentum=0.9,
        weight_decay=1e-5,
        lr_scale={"trunk.*": 0.1},
    )
    system = OadnConfig(optimizer=optimizer)
    data = DataConfig(image_size=224, global_batch_images=64)
    return RunConfig(system_name="oadn", recipe="paper", system=system, data=data)


def small() -> RunConfig:
    """Photographs at 48 px on two CPU cores: a plain trunk, covered faces in training."""
    network = NetworkConfig(trunk="plain", widths=(24, 48, 96, 128), head_features=64)
    return _run("small", network, images=40_960)


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in half a minute on two CPU cores."""
    network = NetworkConfig(trunk="plain", widths=(12, 24, 48, 64), head_features=32)
    return _run("tiny", network, images=12_288, batch=16)


def tiny_backbone() -> RunConfig:
    """The same trunk with one head on its averaged map: what both branches are measured against."""
    run = tiny()
    weights = Weights(attention=0.0, region=0.0, whole=1.0)
    return replace(run, recipe="tiny_backbone", system=replace(run.system, weights=weights))


def _run(recipe: str, network: NetworkConfig, *, images: int, batch: int = 32) -> RunConfig:
    system = OadnConfig(
        network=network,
        gates=GateConfig(sigma=0.08, pooling="weighted"),
        occlusion=OcclusionConfig(probability=0.5),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=Ramp(start=4e-3, end=0.0, shape="cosine"),
            betas=(0.9, 0.99),
            weight_decay=0.02,
        ),
        images=images,
    )
    data = DataConfig(
        image_size=48, global_batch_images=batch, augment=AugmentConfig(crop_shift_pixels=3)
    )
    return RunConfig(system_name="oadn", recipe=recipe, system=system, data=data)

"""FERSNet's recipes: the paper's sizes, the ablation on two CPU cores, and a tiny twin."""

from __future__ import annotations

from dataclasses import fields, replace

from data_service.transforms import AugmentConfig
from trainer.config import DataConfig, EngineConfig, EvaluationConfig, RunConfig, SynthesisConfig
from trainer.nets.convflu import GateConfig
from trainer.presets import PHOTO_DATA, annealed
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig
from trainer.systems.fersnet.config import FersnetConfig, NetworkConfig, Weights


def paper() -> RunConfig:
    """The authors' release: 96 px colour crops of 110 px faces, 54.0 M + 2.77 M parameters.

    500 epochs of CK+'s three peak frames (883 images that a fold does not test) in batches of 8;
    Adam at 1e-4, a tenth of it after epoch 150. It needs a LightCNN-9 as `system.identity_network`.
    """
    rate = Ramp(start=1e-4, end=1e-5, begin=0.3, finish=0.301)
    optimizer = OptimizerConfig(learning_rate=rate, betas=(0.5, 0.999), weight_decay=5e-4)
    system = FersnetConfig(
        gates=GateConfig(learned_bias=False), optimizer=optimizer, critic_optimizer=optimizer
    )
    augment = AugmentConfig(crop_shift_pixels=7, flip=0.5)
    return RunConfig(
        system_name="fersnet",
        recipe="paper",
        system=system,
        data=DataConfig(image_size=96, global_batch_images=8, augment=augment),
        engine=EngineConfig(channels_last=True),
        evaluation=EvaluationConfig(flip=False),
    )


def figure() -> RunConfig:
    """The network of the paper's figure, grey faces, no norm layers; widths are ours."""
    run = paper()
    network = NetworkConfig(
        recognition_channels=(64, 128, 256),
        synthesis_channels=(64, 128, 256),
        num_blocks=2,
        recognition_norm="none",
        synthesis_norm="none",
    )
    system = replace(run.system, form="figure", network=network)
    return replace(run, recipe="figure", system=system, data=replace(run.data, grey=True))


_NARROW = NetworkConfig(
    stem_channels=16,
    recognition_channels=(32, 64, 128),
    synthesis_channels=(16, 24, 32),
    critic_channels=(16, 32, 64, 64),
    joint_pool=False,
    residual_modulation=True,
    output="warp",
)


_FEW_IMAGES = Weights(
    classification=4.0,
    pixel=0.2,
    identity=0.05,
    adversarial=0.25,
    cycle=0.0,
    expression=0.7,
    keep=5.0,
    critic=1.0,
    mismatch=0.5,
)
"""For few images: recognition leads."""


def small() -> RunConfig:
    """Real photographs on two CPU cores: 48 px, grey, five classes, ConvFLU at all scales.

    The recognition branch is the wide one; every fourth face is edited. Rare classes weigh by the
    root of their number. No identity network is needed: with one, set `system.identity_network` and
    `system.weights.identity=0.05`. With few faces, start from a run on drawn ones (`--init`).
    """
    system = FersnetConfig(
        network=replace(_NARROW, place_classifier=True, dropout=0.3),
        weights=_after(0.2, replace(_FEW_IMAGES, identity=0.0)),
        optimizer=annealed(4e-3, weight_decay=0.05, warmup=0.2),
        critic_optimizer=OptimizerConfig(learning_rate=5e-4, betas=(0.5, 0.99)),
        ema_halflife_images=4000,
        images=26_880,
        class_power=0.5,
        label_smoothing=0.1,
        vary_views=True,
        edit_every=4,
        critic_turns=1,
        critic_every=4,
    )
    data = replace(PHOTO_DATA, augment=replace(PHOTO_DATA.augment, contrast=0.3, erase=0.3))
    return RunConfig(system_name="fersnet", recipe="small", system=system, data=data)


def paper_single_task() -> RunConfig:
    """The paper's ablation "without MTL": the recognition branch of `paper` alone."""
    return _single_task(paper())


def paper_hard_sharing() -> RunConfig:
    """The paper's ablation "without ConvFLU": one encoder for both tasks."""
    return _hard_sharing(paper())


def paper_fesda() -> RunConfig:
    """`paper` with FES-DA; the paper does not say how it trains, so as in `small_fesda`."""
    return _fesda(paper())


def small_single_task() -> RunConfig:
    """Of the ablation: the recognition branch of `small` alone, same images."""
    return _single_task(small())


def small_hard_sharing() -> RunConfig:
    """Of the ablation: one encoder of the same width for both tasks, no units."""
    return _hard_sharing(small())


def small_fesda() -> RunConfig:
    """Of the ablation: ConvFLU; after two thirds of the images the generator fills the classes."""
    return _fesda(small())


def _single_task(run: RunConfig) -> RunConfig:
    editing = {item.name: 0.0 for item in fields(Weights) if item.name != "classification"}
    weights = replace(run.system.weights, **editing)
    system = replace(run.system, sharing="single", weights=weights)
    return replace(run, recipe=f"{run.recipe}_single_task", system=system)


def _hard_sharing(run: RunConfig) -> RunConfig:
    system = replace(run.system, sharing="hard")
    return replace(run, recipe=f"{run.recipe}_hard_sharing", system=system)


def _fesda(run: RunConfig) -> RunConfig:
    images = run.system.images
    system = replace(run.system, images=images * 2 // 3, augmented_images=images // 3)
    synthesis = SynthesisConfig(stage="augmented", share=system.synthetic_share)
    return replace(run, recipe=f"{run.recipe}_fesda", system=system, synthesis=synthesis)


_PAIRED = Weights(
    classification=4.0,
    pixel=0.25,
    smooth=10.0,
    identity=0.01,
    adversarial=Ramp(start=0.0, end=0.005, begin=0.2, finish=0.3),
    cycle=0.0,
    expression=Ramp(start=0.0, end=0.01, begin=0.3, finish=0.5),
    critic=Ramp(start=0.0, end=1.0, begin=0.1, finish=0.11),
)
"""For subjects that sat for several expressions in one sitting.

Pairs teach where a face changes; the classifier, once it knows something, how far.
"""


def tiny() -> RunConfig:
    """Drawn faces at 48 px, in three minutes on two CPU cores.

    Batches are small and faces hardly varied: what a short training lacks is steps.
    """
    network = replace(_NARROW, output="residual", place_condition=True, synthesis_norm="none")
    system = FersnetConfig(
        network=network,
        weights=_PAIRED,
        optimizer=annealed(3e-3),
        critic_optimizer=OptimizerConfig(learning_rate=5e-4, betas=(0.5, 0.99)),
        ema_halflife_images=100,
        images=16_384,
        label_smoothing=0.05,
        pixel_in_colour=True,
        vary_views=True,
        critic_turns=1,
        critic_every=2,
        identity_width=0.125,
    )
    augment = AugmentConfig(crop_shift_pixels=1)
    data = DataConfig(image_size=48, global_batch_images=16, augment=augment)
    return RunConfig(system_name="fersnet", recipe="tiny", system=system, data=data)


def tiny_single_task() -> RunConfig:
    """Of the ablation on drawn faces: the recognition branch of `tiny` alone."""
    return _single_task(tiny())


def tiny_hard_sharing() -> RunConfig:
    """Of the ablation on drawn faces: one encoder for both tasks."""
    return _hard_sharing(tiny())


def tiny_fesda() -> RunConfig:
    """Of the ablation on drawn faces: ConvFLU, then FES-DA as in `small_fesda`."""
    return _fesda(tiny())


def _after(begin: float, weights: Weights) -> Weights:
    """Nothing is edited before that part of the stage: first the recogniser must know something."""
    later = {
        item.name: Ramp(start=0.0, end=value, begin=begin, finish=begin + 0.1)
        for item in fields(Weights)
        if item.name != "classification" and (value := getattr(weights, item.name))
    }
    return replace(weights, **later)

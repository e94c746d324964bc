"""Settings that the recipes of several systems share."""

from __future__ import annotations

from data_service.schema import Expression
from data_service.transforms import AugmentConfig
from trainer.config import DataConfig
from trainer.schedules import Ramp
from trainer.system import OptimizerConfig

PHOTO_CLASSES = (
    Expression.NEUTRAL,
    Expression.HAPPINESS,
    Expression.SURPRISE,
    Expression.SADNESS,
    Expression.ANGER,
)
"""The classes of which collections of photographs have enough."""

PHOTO_DATA = DataConfig(
    image_size=48,
    global_batch_images=32,
    classes=PHOTO_CLASSES,
    grey=True,
    augment=AugmentConfig(
        crop_shift_pixels=4, rotation_degrees=10.0, scale=0.1, brightness=0.2, contrast=0.2
    ),
)
"""How recipes called `small` see photographs: grey crops of 48 px, moved, turned and relit."""


def annealed(rate: float, *, weight_decay: float = 0.02, warmup: float = 0.0) -> OptimizerConfig:
    """AdamW whose rate falls to zero along half a cosine: what short trainings do well with."""
    return OptimizerConfig(
        name="adamw",
        learning_rate=Ramp(start=rate, end=0.0, shape="cosine"),
        betas=(0.9, 0.99),
        weight_decay=weight_decay,
        warmup=warmup,
    )

"""The one term of the baseline.

Shapes: B faces, K classes.
"""

from __future__ import annotations

from torch import Tensor

from trainer.losses.classification import classification
from trainer.system import FaceBatch, Mean
from trainer.systems.baseline.config import BaselineConfig


def terms(
    logits_BK: Tensor, batch: FaceBatch, class_weight_K: Tensor, config: BaselineConfig
) -> dict[str, Mean]:
    """Cross-entropy, smoothed and weighed as the settings say."""
    loss = classification(
        logits_BK,
        batch.expression_B,
        config.label_smoothing,
        class_weight_K=class_weight_K,
    )
    return {"classification": loss}

"""The one term of the Residual Masking Network.

Shapes: B faces, K classes.
"""

from __future__ import annotations

from torch import Tensor

from trainer.losses.classification import classification
from trainer.system import FaceBatch, Mean
from trainer.systems.residual_masking.config import ResidualMaskingConfig


def terms(
    logits_BK: Tensor, batch: FaceBatch, class_weight_K: Tensor, config: ResidualMaskingConfig
) -> dict[str, Mean]:
    """Cross-entropy, smoothed and weighed as the settings say."""
    loss = classification(
        logits_BK, batch.expression_B, config.label_smoothing, class_weight_K=class_weight_K
    )
    return {"classification": loss}

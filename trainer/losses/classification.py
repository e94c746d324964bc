"""Cross-entropy over the expressions, as a masked mean over faces, and weights of rare classes.

Shapes: B faces, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


def classification(
    logits_BK: Tensor,
    expression_B: Tensor,
    smoothing: float = 0.0,
    mask_B: Tensor | None = None,
    class_weight_K: Tensor | None = None,
) -> Mean:
    """Cross-entropy with the true (or the wished) class, each face weighed by that class."""
    loss_B = functional.cross_entropy(
        logits_BK, expression_B, reduction="none", label_smoothing=smoothing
    )
    if class_weight_K is not None:
        loss_B = loss_B * class_weight_K.to(loss_B.device)[expression_B]
    return masked_mean(loss_B, mask_B)


def class_weights(info: DatasetInfo, power: float) -> Tensor:
    """Weights [K] proportional to (faces of the class)^-power, of mean 1 over the training faces.

    `power` 0 weighs all faces alike, 1 all classes alike, 0.5 lies between. A class without a face
    has weight 0. ValueError where a power is asked for and the faces were not counted.
    """
    if not power:
        return torch.ones(len(info.classes))
    if len(info.class_images) != len(info.classes):
        raise ValueError("classes cannot be weighed: nobody counted the training faces of each")
    count_K = torch.tensor(info.class_images, dtype=torch.float64)
    weight_K = torch.where(count_K > 0, count_K.clamp(min=1) ** -power, 0.0)
    return (weight_K * count_K.sum() / (weight_K * count_K).sum()).float()

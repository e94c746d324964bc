"""What a student learns from its teacher.

Shapes: B faces, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


def soft_cross_entropy(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Mean:
    """Kullback-Leibler divergence of the softened outputs, times T² (Hinton et al., 2015)."""
    log_student_BK = functional.log_softmax(student_BK / temperature, dim=1)
    log_teacher_BK = functional.log_softmax(teacher_BK / temperature, dim=1)
    gap_BK = log_teacher_BK.exp() * (log_teacher_BK - log_student_BK)
    return masked_mean(gap_BK.sum(1) * temperature**2)


def triplet(
    anchor_BD: Tensor, positive_BD: Tensor, negative_BD: Tensor, margin: float, mask_B: Tensor
) -> Mean:
    """max(0, |a - p|² - |a - n|² + margin) of unit vectors, over the faces of the mask."""
    anchor_BD, positive_BD, negative_BD = (
        functional.normalize(one, dim=1) for one in (anchor_BD, positive_BD, negative_BD)
    )
    near_B = (anchor_BD - positive_BD).square().sum(1)
    far_B = (anchor_BD - negative_BD).square().sum(1)
    return masked_mean(torch.relu(near_B - far_B + margin), mask_B)

"""The distance of two responses, from the paper's distribution function.

f(X) = C exp(-|X - G(I)|_p^p): to make the response X likely is to minimise the exponent.
Shapes: B faces, C channels, S side of the response.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


def response_distance(response_BCSS: Tensor, teacher: Tensor, power: int) -> Mean:
    """Mean |response - teacher|^p over channels and places.

    A finer map of the teacher is averaged to the side of the response.
    """
    if teacher.shape[-1] != response_BCSS.shape[-1]:
        teacher = functional.adaptive_avg_pool2d(teacher, response_BCSS.shape[-1])
    gap_BCSS = (response_BCSS - teacher).abs()
    gap_BCSS = gap_BCSS if power == 1 else gap_BCSS.square()
    return masked_mean(gap_BCSS.flatten(1).mean(1))

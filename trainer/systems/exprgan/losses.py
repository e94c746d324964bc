"""ExprGAN's losses: what each player's turn is made of.

Shapes: B faces, C channels, H height, W width, K classes, Z identity code, d numbers of the
expression code per class, E = K d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import logistic, masked_mean
from trainer.system import Mean

GENERATOR_TERMS = (
    "pixel",
    "identity",
    "expression_code",
    "adversarial_image",
    "adversarial_latent",
    "tv",
    "edit_class",
    "pair",
    "pair_smooth",
)
CRITIC_TERMS = ("critic", "expression_code_critic", "critic_class", "critic_mismatch")
LATENT_CRITIC_TERMS = ("latent_critic",)
PAIRED = frozenset({"pair", "pair_smooth"})
_WHOLE_FROM = 0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draft:
    """What a step draws and makes once, without gradients, for the turns of all players.

    `code_BE` is the code of the made faces, `class_B` their class and `intensity_B` the mean of
    their magnitudes; `own_code_BE` is a code of the faces' own class. `made_BCHW` and `latent_BZ`
    are empty if no critic wants them.
    """

    class_B: Tensor
    intensity_B: Tensor
    code_BE: Tensor
    own_code_BE: Tensor
    made_BCHW: Tensor
    latent_BZ: Tensor


def pixel_error(made_BCHW: Tensor, faces_BCHW: Tensor) -> Mean:
    """Mean |made - face| over channels and pixels, in [-1, 1] as published (`L_pixel`)."""
    return masked_mean((made_BCHW - faces_BCHW).abs().flatten(1).mean(1))


def code_error(read_BE: Tensor, code_BE: Tensor, num_classes: int) -> Mean:
    """Squared error of Q: the mean over a class' numbers, summed over the classes (`L_Q`).

    The released form of -E log Q(c | face), for a Gaussian of fixed variance.
    """
    return masked_mean((read_BE - code_BE).square().mean(1) * num_classes)


def told_apart(real_B: Tensor, made_B: Tensor) -> Mean:
    """Cross-entropy of real against made, added up (`L_adv`, the critic's side)."""
    real, made = logistic(real_B, 1.0), logistic(made_B, 0.0)
    return Mean(sum=real.sum + made.sum, count=real.count)


def class_error(
    logits_BK: Tensor, class_B: Tensor, intensity_B: Tensor, zero_class: int | None
) -> Mean:
    """Cross-entropy of a reading with a class that grows with its intensity.

    The class is wholly there from half the intensity on; below, the target is shared with neutral
    or, without a neutral class, with all classes alike.
    """
    num_classes = logits_BK.shape[1]
    own_BK = functional.one_hot(class_B, num_classes).to(logits_BK.dtype)
    if zero_class is None:
        rest_BK = torch.full_like(own_BK, 1 / num_classes)
    else:
        zero_B = torch.full_like(class_B, zero_class)
        rest_BK = functional.one_hot(zero_B, num_classes).to(logits_BK.dtype)
    share_B1 = (intensity_B / _WHOLE_FROM).clamp(max=1).unsqueeze(1)
    target_BK = share_B1 * own_BK + (1 - share_B1) * rest_BK
    return masked_mean(-(target_BK * functional.log_softmax(logits_BK, dim=1)).sum(1))

"""What one model of the cascade learns, and how the models decide together.

Shapes: B faces, K classes of the run, M classes of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import masked_mean
from trainer.system import Mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One model's question: `chosen` against all in `left`, or, without it, which of `left`.

    Both are class indices of the run; `left` are the classes that nobody has decided yet, `chosen`
    among them.
    """

    chosen: int | None
    left: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """Outputs of the model: rest and chosen, or one for each class that is left."""
        return len(self.left) if self.chosen is None else 2


def decisions(order: Sequence[int], num_classes: int) -> tuple[Decision, ...]:
    """The models of a cascade: one for each class in order, then one for the rest."""
    left = list(range(num_classes))
    made = []
    for chosen in order:
        if len(left) < 2:
            break
        made.append(Decision(chosen=chosen, left=tuple(left)))
        left.remove(chosen)
    if len(left) > 1:
        made.append(Decision(chosen=None, left=tuple(left)))
    return tuple(made)


def decision_loss(
    logits_BM: Tensor, expression_B: Tensor, decision: Decision, smoothing: float
) -> Mean:
    """Cross-entropy over the faces of classes that are left.

    Classes are drawn alike, so one against the rest is weighed: both answers count the same.
    """
    place_K = torch.full((max(decision.left) + 1,), -1, device=expression_B.device)
    place_K[list(decision.left)] = torch.arange(len(decision.left), device=place_K.device)
    known_B = expression_B < len(place_K)
    place_B = torch.where(known_B, place_K[expression_B.clamp(max=len(place_K) - 1)], -1)
    mask_B, answer_B, weight_B = place_B >= 0, place_B.clamp(min=0), None
    if decision.chosen is not None:
        answer_B = (expression_B == decision.chosen).long()
        count = len(decision.left)
        weight_B = torch.where(answer_B == 1, count / 2, count / (2 * (count - 1)))
    loss_B = functional.cross_entropy(
        logits_BM, answer_B, reduction="none", label_smoothing=smoothing
    )
    return masked_mean(loss_B if weight_B is None else loss_B * weight_B, mask_B)


def cascade(
    answers: Sequence[Tensor],
    decisions: Sequence[Decision],
    thresholds: Sequence[float],
    num_classes: int,
) -> Tensor:
    """Log-probabilities [B, K] of all models' logits, the cascade's own choice on top.

    A class' probability is that of its answer after all earlier models said no. The choice is the
    first class whose confidence is above its threshold, or else the best of the last model; where
    it is not the likeliest, its logit is raised just above.
    """
    no_B = torch.zeros_like(answers[0][:, 0])
    choice_B = torch.full_like(no_B, -1, dtype=torch.int64)
    columns: dict[int, Tensor] = {}
    for index, (logits_BM, decision) in enumerate(zip(answers, decisions, strict=True)):
        share_BM = functional.log_softmax(logits_BM.float(), dim=1)
        if decision.chosen is None:
            columns |= {one: no_B + share_BM[:, n] for n, one in enumerate(decision.left)}
            left = torch.tensor(decision.left, device=no_B.device)
            choice_B = torch.where(choice_B < 0, left[share_BM.argmax(1)], choice_B)
            continue
        columns[decision.chosen] = no_B + share_BM[:, 1]
        says_yes_B = (share_BM[:, 1].exp() > thresholds[index]) & (choice_B < 0)
        choice_B = torch.where(says_yes_B, decision.chosen, choice_B)
        no_B = no_B + share_BM[:, 0]
    if decisions[-1].chosen is not None:
        (last,) = set(decisions[-1].left) - {decisions[-1].chosen}
        columns[last] = no_B
        choice_B = torch.where(choice_B < 0, last, choice_B)
    log_BK = torch.stack([columns[index] for index in range(num_classes)], dim=1)
    best_B = log_BK.amax(1)
    own_B = log_BK.gather(1, choice_B[:, None])[:, 0]
    raised_B = torch.where(own_B < best_B, best_B + 1e-3, own_B)
    return log_BK.scatter(1, choice_B[:, None], raised_B[:, None])

"""The terms of FERSNet: pure functions of what the networks gave.

Source: the authors' release (train.py, criteria.py). Shapes: B faces, C channels, H height,
W width, K classes. Images in [-1, 1] are compared on the scale [0, 1], as in the release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import joined, least_squares
from trainer.losses.reconstruction import absolute_error, feature_error, smooth_error, squared_error
from trainer.nets.lightcnn import grey_from_faces
from trainer.system import FaceBatch, Mean

EDITING = frozenset({"pixel", "smooth", "identity", "adversarial", "cycle", "expression", "keep"})
JUDGING = frozenset({"critic", "mismatch"})
RULE = "same_subject"


def one_hot(expression_B: Tensor, num_classes: int) -> Tensor:
    """[B, K] float32."""
    return functional.one_hot(expression_B, num_classes).float()


def paired_terms(
    images_BCHW: Tensor,
    batch: FaceBatch,
    wanted: frozenset[str],
    features: Callable[[Tensor], Sequence[Tensor]] | None,
    *,
    in_colour: bool,
) -> dict[str, Mean]:
    """`pixel`, `smooth` and `identity`, for real faces whose partner shows the same subject.

    pixel = |grey(G) - grey(I_t)|; identity = (phi(G) - phi(I_t))², phi the last pooled map of the
    frozen identity network. The release compares grey, so that colour is left to the critic and
    the cycle. smooth is ours.
    """
    mask_B = batch.partner_valid[RULE] & ~batch.synthetic_B
    partner_BCHW = batch.partners[RULE]
    terms: dict[str, Mean] = {}
    faces, targets = images_BCHW, partner_BCHW
    if not in_colour:
        # doubled, because the errors expect faces in [-1, 1]
        faces, targets = 2 * grey_from_faces(images_BCHW), 2 * grey_from_faces(partner_BCHW)
    if "pixel" in wanted:
        terms["pixel"] = absolute_error(faces, targets, mask_B)
    if "smooth" in wanted:
        terms["smooth"] = smooth_error(faces, targets, mask_B)
    if "identity" in wanted:
        assert features is not None
        with torch.no_grad():
            target_map = features(partner_BCHW)[-1]
        terms["identity"] = feature_error([features(images_BCHW)[-1]], [target_map], mask_B)
    return terms


def cycle(images_BCHW: Tensor, batch: FaceBatch) -> Mean:
    """(G(G(I_s, y_t), y_s) - I_s)² over all channels, for every real face."""
    return squared_error(images_BCHW, batch.faces_BCHW, ~batch.synthetic_B)


def critic_terms(
    critic: Callable[[Tensor, Tensor], Tensor],
    batch: FaceBatch,
    reals: Tensor,
    fakes: Tensor,
    fake_target_BK: Tensor,
    wrong_BK: Tensor,
    wanted: frozenset[str],
) -> Mapping[str, Mean]:
    """The critic's side of LSGAN; real faces are the partners, under their own expressions.

    A face without a partner is its own. `mismatch`: the same faces under a wrong class are fake.
    The critic sees all of them as one batch, which its instance norms do not mix.
    """
    real_B = ~batch.synthetic_B
    partner_BK = one_hot(batch.partner_expression[RULE], fake_target_BK.shape[1])
    asked = {}
    if "critic" in wanted:
        asked |= {"real": (reals, partner_BK), "fake": (fakes, fake_target_BK)}
    if "mismatch" in wanted:
        asked |= {"wrong": (reals, wrong_BK)}
    faces, classes = zip(*asked.values(), strict=True)
    scores = critic(torch.cat(faces), torch.cat(classes))
    score = dict(zip(asked, scores.split([len(part) for part in faces]), strict=True))
    terms: dict[str, Mean] = {}
    if "critic" in wanted:
        on_real = least_squares(score["real"], 1.0, real_B)
        on_fake = least_squares(score["fake"], 0.0, real_B)
        terms["critic"] = joined(on_real, on_fake)
    if "mismatch" in wanted:
        terms["mismatch"] = least_squares(score["wrong"], 0.0, real_B)
    return terms

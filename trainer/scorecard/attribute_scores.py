"""How well attributes are told: each, and their mean.

Shapes: N faces, B faces of a batch, A attributes, S subjects.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from trainer.scorecard import statistics
from trainer.scorecard.evaluate import evaluating
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.intervals import subject_intervals

_SHARES = {"accuracy": statistics.METRICS["accuracy"], "balanced": statistics.macro_recall}
PRESENT = 0.0
"""An attribute above this is present, as in training; what is NaN in the lake is not counted."""


@torch.no_grad()
def attribute_card(examinee: Examinee) -> dict[str, Any] | None:
    """Accuracy of each attribute and their means, over the faces under test; plain JSON values.

    Attributes that are known of no face are left out; None where that are all of them. `balanced`
    is the mean of the recalls of present and absent: chance is 0.5 however rare an attribute is, as
    long as there are faces with it and without.
    """
    rights, truths = [], []
    with evaluating(examinee.system):
        for batch in examinee.batches(examinee.rows_N):
            logits_BA = examinee.system.predict(batch).attributes_BA
            assert logits_BA is not None and batch.attributes_BA is not None
            truth_BA = batch.attributes_BA.cpu().numpy()
            rights.append((logits_BA.float().cpu().numpy() > 0) == (truth_BA > PRESENT))
            truths.append(truth_BA)
    sums_SA22 = _sums(
        np.concatenate(rights), np.concatenate(truths), examinee.subjects(examinee.rows_N)
    )
    if not sums_SA22.any():
        return None
    metrics = {"accuracy": mean_accuracy, "balanced": mean_balanced}
    means = statistics.subject_bootstrap(sums_SA22, metrics, seed=examinee.run.seed)
    per_attribute = {}
    for index, name in enumerate(examinee.info.attributes):
        if not sums_SA22[:, index].any():
            continue
        own = subject_intervals(_confusions(sums_SA22[:, index]), _SHARES)
        per_attribute[name] = {key: asdict(one) for key, one in own.items()}
    return {
        **{key: asdict(one) for key, one in means.items()},
        "per_attribute": per_attribute,
        "num_faces": len(examinee.rows_N),
    }


def _sums(right_NA: np.ndarray, truth_NA: np.ndarray, subjects_N: np.ndarray) -> np.ndarray:
    """By subject, attribute and truth (absent, present): right answers and answers."""
    cells_NA22 = np.zeros((*right_NA.shape, 2, 2))
    for truth in (0, 1):
        asked_NA = np.isfinite(truth_NA) & ((truth_NA > PRESENT) == bool(truth))
        cells_NA22[..., truth, 0] = right_NA & asked_NA
        cells_NA22[..., truth, 1] = asked_NA
    return statistics.sums_by_subject(cells_NA22, subjects_N)


def _confusions(sums_S22: np.ndarray) -> np.ndarray:
    """Of one attribute: truth before answer."""
    right_S2, asked_S2 = sums_S22[..., 0], sums_S22[..., 1]
    counts_S22 = np.zeros(sums_S22.shape)
    for truth in (0, 1):
        counts_S22[:, truth, truth] = right_S2[:, truth]
        counts_S22[:, truth, 1 - truth] = (asked_S2 - right_S2)[:, truth]
    return counts_S22


def mean_accuracy(sums_A22: np.ndarray) -> np.ndarray:
    """The mean over attributes of the share of right answers; unknown attributes do not count."""
    return _mean(_share(sums_A22.sum(axis=-2)))


def mean_balanced(sums_A22: np.ndarray) -> np.ndarray:
    """The mean over attributes of the mean recall of present and absent."""
    return _mean(_mean(_share(sums_A22)))


def _share(sums_2: np.ndarray) -> np.ndarray:
    right, asked = sums_2[..., 0], sums_2[..., 1]
    return np.divide(right, asked, out=np.full(right.shape, np.nan), where=asked > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

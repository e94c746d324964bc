"""The mean over several official splits of a corpus, as its papers print it.

Shapes: N faces, S subjects, F splits, K classes, J = F * K.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.scorecard import statistics
from trainer.scorecard.evaluate import Predictions
from trainer.scorecard.intervals import subject_intervals


def mean_over_folds(folds: Sequence[Predictions], metric: statistics.Metric) -> statistics.Interval:
    """The mean of the folds' figures with its interval over subjects.

    Every fold counts alike, whatever it tests. Whom several folds test is one subject still.
    """
    num_classes = folds[0].logits.shape[1]
    starts_F = num_classes * np.arange(len(folds))
    counts_SJJ = statistics.confusion_by_subject(
        np.concatenate([start + one.labels for start, one in zip(starts_F, folds, strict=True)]),
        np.concatenate([start + one.predicted for start, one in zip(starts_F, folds, strict=True)]),
        np.concatenate([one.subjects for one in folds]),
        num_classes * len(folds),
    )

    def mean(confusion_JJ: np.ndarray) -> np.ndarray:
        own_F = [slice(start, start + num_classes) for start in starts_F]
        with np.errstate(invalid="ignore"):  # a fold of one subject, who is left out in turn
            return np.nanmean([metric(confusion_JJ[..., own, own]) for own in own_F], axis=0)

    return subject_intervals(counts_SJJ, {"mean": mean})["mean"]

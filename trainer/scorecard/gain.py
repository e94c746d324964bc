"""What a recogniser gains by the faces that a system makes.

Shapes: N faces, B faces of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.scorecard import statistics
from trainer.scorecard.evaluate import evaluating, evaluation_batch, labels_of
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.intervals import paired_difference, subject_intervals
from trainer.scorecard.judge import JUDGE_IMAGES, Judge, train_judge
from trainer.scorecard.synthesis_scores import aimed

SEEDS = (101, 102, 103)
SYNTHETIC_FACES = 4096


@torch.no_grad()
def gain_card(examinee: Examinee, *, images: int = JUDGE_IMAGES) -> dict[str, Any]:
    """Accuracy and mean class recall of a small CNN with synthetic faces minus without.

    Both are trained on the training subjects, as long, from the same seeds: once on their real
    faces, once on these and edits of them to the other classes. Tested on the faces under test,
    which neither has seen; figures are paired and over three seeds. No gate sorts the edits.
    """
    with evaluating(examinee.system):
        made_MCHW, made_labels_M = _edits(examinee)
    real_NCHW, labels_N = _real(examinee)
    sets = (
        (torch.cat([real_NCHW, made_MCHW]), np.concatenate([labels_N, made_labels_M])),
        (real_NCHW, labels_N),
    )
    with_edits_SKK, real_alone_SKK = (
        np.sum([_confusions(examinee, *faces, seed=seed, images=images) for seed in SEEDS], axis=0)
        for faces in sets
    )
    found = {
        name: asdict(
            paired_difference(with_edits_SKK, real_alone_SKK, metric, seed=examinee.run.seed)
        )
        for name, metric in statistics.METRICS.items()
    }
    without = subject_intervals(real_alone_SKK)
    return {
        **found,
        "without": {name: asdict(one) for name, one in without.items()},
        "num_real": len(labels_N),
        "num_synthetic": len(made_labels_M),
        "seeds": len(SEEDS),
    }


def _real(examinee: Examinee) -> tuple[Tensor, np.ndarray]:
    labels_N = labels_of(examinee.home_lake, examinee.train_rows_N, examinee.info)
    batch = evaluation_batch(
        examinee.home_lake, examinee.train_rows_N, labels_N, examinee.run, examinee.info
    )
    return batch.faces_BCHW, labels_N


def _edits(examinee: Examinee) -> tuple[Tensor, np.ndarray]:
    """Edits of training faces, evenly spread, each to one class that is not its own, in turn."""
    rows_N, num_classes = examinee.train_rows_N, len(examinee.info.classes)
    rows_N = rows_N[:: max(1, len(rows_N) // SYNTHETIC_FACES)]
    labels_N = labels_of(examinee.home_lake, rows_N, examinee.info)
    step_N = 1 + np.arange(len(rows_N)) % (num_classes - 1)
    target_N = (labels_N + step_N) % num_classes
    made = []
    for target in range(num_classes):
        for part in _parts(np.flatnonzero(target_N == target)):
            batch = evaluation_batch(
                examinee.home_lake, rows_N[part], labels_N[part], examinee.run, examinee.info
            ).to(examinee.device)
            images_BCHW = examinee.system.predict(aimed(batch, target)).images_BCHW
            assert images_BCHW is not None
            made.append(images_BCHW.float().clamp(-1, 1).cpu())
    return torch.cat(made), np.sort(target_N, kind="stable")


def _parts(index_N: np.ndarray, size: int = 64) -> list[np.ndarray]:
    return [index_N[start : start + size] for start in range(0, len(index_N), size)]


def _confusions(
    examinee: Examinee, faces_NCHW: Tensor, labels_N: np.ndarray, *, seed: int, images: int
) -> np.ndarray:
    num_classes = len(examinee.info.classes)
    judge = train_judge(
        lambda chosen_B: faces_NCHW[torch.from_numpy(chosen_B)],
        labels_N,
        num_classes,
        channels=faces_NCHW.shape[1],
        seed=seed,
        images=images,
    )
    judge = judge.to(examinee.device)
    read_N = np.concatenate(
        [_read(judge, batch.faces_BCHW) for batch in examinee.batches(examinee.rows_N)]
    )
    labels_N = examinee.labels(examinee.rows_N)
    subjects_N = examinee.subjects(examinee.rows_N)
    return statistics.confusion_by_subject(labels_N, read_N, subjects_N, num_classes)


def _read(judge: Judge, faces_BCHW: Tensor) -> np.ndarray:
    return judge(faces_BCHW).argmax(1).cpu().numpy()

"""What a recogniser gains by the faces that a system makes.

Shapes: N faces, M edits, B faces of a batch, C channels, H height, W width, K classes, S subjects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.scorecard import statistics
from trainer.scorecard.evaluate import evaluating, evaluation_batch, faces_of, labels_of
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
    faces = _reader(examinee, made_MCHW)
    labels_N = labels_of(examinee.home_lake, examinee.train_rows_N, examinee.info)
    with_edits_SKK, real_alone_SKK = (
        np.sum(
            [_confusions(examinee, faces, shown, seed=seed, images=images) for seed in SEEDS],
            axis=0,
        )
        for shown in (np.concatenate([labels_N, made_labels_M]), labels_N)
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


def _reader(examinee: Examinee, made_MCHW: Tensor) -> Callable[[np.ndarray], Tensor]:
    """Gives faces by number: first the training faces, of which there may be more than fit into
    memory and which are cut out as they are asked for, then the edits."""
    rows_N, lake, run = examinee.train_rows_N, examinee.home_lake, examinee.run

    def faces(number_B: np.ndarray) -> Tensor:
        real_B = number_B < len(rows_N)
        made_B = torch.from_numpy(number_B[~real_B] - len(rows_N))
        found_BCHW = made_MCHW.new_empty((len(number_B), *made_MCHW.shape[1:]))
        found_BCHW[torch.from_numpy(real_B)] = faces_of(lake, rows_N[number_B[real_B]], run)
        found_BCHW[torch.from_numpy(~real_B)] = made_MCHW[made_B]
        return found_BCHW

    return faces


def _edits(examinee: Examinee) -> tuple[Tensor, np.ndarray]:
    """Edits of training faces, evenly spread, each to one class that is not its own, in turn."""
    rows_N, info = examinee.train_rows_N, examinee.info
    rows_N = rows_N[:: -(-len(rows_N) // SYNTHETIC_FACES)]
    num_classes = len(info.classes)
    labels_N = labels_of(examinee.home_lake, rows_N, info)
    step_N = 1 + np.arange(len(rows_N)) % (num_classes - 1)
    target_N = (labels_N + step_N) % num_classes
    made_MCHW = torch.empty(len(rows_N), info.channels, info.image_size, info.image_size)
    start = 0
    for target in range(num_classes):
        for part in _parts(np.flatnonzero(target_N == target)):
            batch = evaluation_batch(
                examinee.home_lake, rows_N[part], labels_N[part], examinee.run, examinee.info
            ).to(examinee.device)
            images_BCHW = examinee.system.predict(aimed(batch, target)).images_BCHW
            assert images_BCHW is not None
            made_MCHW[start : start + len(part)] = images_BCHW.float().clamp(-1, 1)
            start += len(part)
    return made_MCHW, np.sort(target_N, kind="stable")


def _parts(index_N: np.ndarray, size: int = 64) -> list[np.ndarray]:
    return [index_N[start : start + size] for start in range(0, len(index_N), size)]


def _confusions(
    examinee: Examinee,
    faces: Callable[[np.ndarray], Tensor],
    labels_N: np.ndarray,
    *,
    seed: int,
    images: int,
) -> np.ndarray:
    num_classes = len(examinee.info.classes)
    judge = train_judge(
        faces,
        labels_N,
        num_classes,
        channels=examinee.info.channels,
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

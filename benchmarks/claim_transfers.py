"""What becomes of an expression that one person lends another, as independent judges see it.

Shapes: N test faces, M made faces, B faces of a batch, C channels, H height, W width, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.claim_counts import parted


def transferred(
    directory: Path, lake_path: Path, fold: str, counted: Literal["expression", "person"]
) -> np.ndarray:
    """For each subject what is made of its faces with expressions of other subjects' faces.

    `expression`: the class that was to come over, and the class that is read. `person`: of two
    classes, the face's own subject (1) or the one that lent the expression, whose further faces the
    made face is more like; the truth is always 1. There faces and lenders count whose subject has
    further faces.
    """
    from data_service.lakes.lake import Lake
    from trainer.restore import load_system
    from trainer.scorecard.evaluate import evaluation_batch, labels_of, subjects_of
    from trainer.scorecard.statistics import confusion_by_subject

    loaded, lake = load_system(directory), Lake.open(lake_path)
    train_rows, rows = parted(loaded, lake, fold)
    run, info = loaded.run, loaded.info
    labels_N = labels_of(lake, rows, info)
    batch = evaluation_batch(lake, rows, labels_N, run, info)
    subjects_N = subjects_of(lake, rows)
    face_M, lender_M = lent(labels_N, subjects_N, run.seed)
    if counted == "person":
        known_M = shown_again(subjects_N)[np.stack([face_M, lender_M])].all(axis=0)
        face_M, lender_M = face_M[known_M], lender_M[known_M]
    made_BCHW = made_of(loaded.system, batch, face_M, lender_M)
    if counted == "expression":
        read_M = expression_read(lake, train_rows, run, info, made_BCHW)
        size, truth_M, said_M = len(info.classes), labels_N[lender_M], read_M
    else:
        said_M = own_person(lake, train_rows, run, info, batch, made_BCHW, face_M, lender_M)
        size, truth_M = 2, np.ones_like(said_M)
    return confusion_by_subject(truth_M, said_M, subjects_N[face_M], size)


def shown_again(subjects_N: np.ndarray) -> np.ndarray:
    """Whether there is another face of each face's subject, [N]."""
    _, subject_N, count_S = np.unique(subjects_N, return_inverse=True, return_counts=True)
    return count_S[subject_N] > 1


def lent(labels_N: np.ndarray, subjects_N: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every fourth face with, for every other class, a face of that class of another subject."""
    rng = np.random.default_rng([seed, len(labels_N)])
    pairs = []
    for face in range(0, len(labels_N), 4):
        for label in np.setdiff1d(labels_N, labels_N[face]):
            lenders = np.flatnonzero((labels_N == label) & (subjects_N != subjects_N[face]))
            pairs += [(face, int(rng.choice(lenders)))] if len(lenders) else []
    face_M, lender_M = np.array(pairs).T
    return face_M, lender_M


def made_of(system: Any, batch: Any, face_M: np.ndarray, lender_M: np.ndarray) -> torch.Tensor:
    """The faces with the lenders' expressions."""
    from trainer.inference.photographs import with_reference

    made = []
    with torch.inference_mode():
        for start in range(0, len(face_M), 64):
            face_B, lender_B = (
                torch.from_numpy(one[start : start + 64]) for one in (face_M, lender_M)
            )
            part = batch.map(lambda tensor, face_B=face_B: tensor[face_B])
            part = with_reference(part, batch.faces_BCHW[lender_B], batch.expression_B[lender_B])
            made.append(system.predict(part).images_BCHW.float())
    return torch.cat(made)


def expression_read(
    lake: Any, train_rows: np.ndarray, run: Any, info: Any, images_BCHW: torch.Tensor
) -> np.ndarray:
    """The classes that an independent judge reads."""
    from trainer.scorecard.judge import expression_judge

    judge = expression_judge(lake, train_rows, run, info, seed=run.seed + 1)
    with torch.inference_mode():
        return torch.cat([judge(part).argmax(1) for part in images_BCHW.split(64)]).numpy()


def own_person(
    lake: Any,
    train_rows: np.ndarray,
    run: Any,
    info: Any,
    batch: Any,
    made_BCHW: torch.Tensor,
    face_M: np.ndarray,
    lender_M: np.ndarray,
) -> np.ndarray:
    """1 where the made face is more like the further faces of its own subject than the lender's."""
    from trainer.scorecard.evaluate import subjects_of
    from trainer.scorecard.judge import identity_judge

    judge = identity_judge(lake, train_rows, run, info, seed=run.seed + 1)
    assert judge is not None
    with torch.inference_mode():
        real_ND, made_MD = (
            torch.cat([judge.embed(part) for part in images.split(64)]).numpy()
            for images in (batch.faces_BCHW, made_BCHW)
        )
    subjects_N = subjects_of(lake, batch.row_B.numpy())

    def likeness(of_M: np.ndarray) -> np.ndarray:
        """Cosines of the made faces with the mean of the other faces of those faces' subjects."""
        mean_MD = np.empty_like(made_MD)
        for index, face in enumerate(of_M):
            others_N = (subjects_N == subjects_N[face]) & (np.arange(len(subjects_N)) != face)
            mean_MD[index] = real_ND[others_N].mean(0)
        return (made_MD * mean_MD).sum(1) / np.linalg.norm(mean_MD, axis=1)

    return (likeness(face_M) > likeness(lender_M)).astype(np.int64)

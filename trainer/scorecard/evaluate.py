"""The scorecard: what a system says of unseen faces, and how good that is.

Shapes: N faces, B faces of a batch, C channels, H height, W width, S subjects, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data_service.crops import flipped_landmarks
from data_service.lakes import columns
from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo, FaceBatch
from data_service.transforms import centre_crop
from trainer.config import RunConfig
from trainer.scorecard import statistics
from trainer.scorecard.intervals import ESTIMATOR, subject_intervals
from trainer.system import System
from trainer.world import World

BATCH_IMAGES = 128
NAMELESS = "row "
"""What the name of a subject starts with whose corpus does not tell it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What a system said of N faces: rows of the lake, true class indices, logits (N, K), subjects.

    A face whose corpus does not tell its subject counts as a subject of its own.
    """

    rows: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    subjects: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def predicted(self) -> np.ndarray:
        """The class index of the largest logit of each face."""
        return self.logits.argmax(axis=1)

    def confusions(self) -> np.ndarray:
        """One confusion matrix (truth, prediction) per subject, (S, K, K), subjects sorted."""
        return statistics.confusion_by_subject(
            self.labels, self.predicted, self.subjects, self.logits.shape[1]
        )


def predict_rows(
    system: System,
    lake: Lake,
    rows: Sequence[int] | np.ndarray,
    run: RunConfig,
    info: DatasetInfo,
    world: World,
    *,
    change: Callable[[FaceBatch], FaceBatch] | None = None,
) -> Predictions:
    """The logits of the given rows of the lake, in their order, on every rank.

    Faces are cut out centrally at `run.data.image_size`; with `run.evaluation.flip` the logits are
    the mean of those of the face and of its mirror image. `change` is done to every batch first: an
    occlusion. Each rank predicts its part of the rows, so all ranks must call. ValueError where a
    row's expression is none of the run's classes.
    """
    rows_N = np.asarray(rows, dtype=np.int64)
    labels_N = labels_of(lake, rows_N, info)
    parts = [np.empty((0, len(info.classes)), np.float32)]
    with evaluating(system), torch.inference_mode():
        for own in _batches(np.arange(world.rank, len(rows_N), world.size)):
            batch = evaluation_batch(lake, rows_N[own], labels_N[own], run, info).to(world.device)
            batch = batch if change is None else change(batch)
            logits_BK = logits_of(system, batch, flip=run.evaluation.flip)
            parts.append(logits_BK.float().cpu().numpy())
    logits_NK = np.empty((len(rows_N), len(info.classes)), np.float32)
    for rank, logits in enumerate(world.gather_objects(np.concatenate(parts))):
        logits_NK[rank :: world.size] = logits
    return Predictions(
        rows=rows_N, labels=labels_N, logits=logits_NK, subjects=subjects_of(lake, rows_N)
    )


def evaluation_batch(
    lake: Lake, rows_B: np.ndarray, labels_B: np.ndarray, run: RunConfig, info: DatasetInfo
) -> FaceBatch:
    """Faces as they are tested: cut out centrally, not augmented, each aiming at its own label.

    With landmarks and attributes where the system was built for some.
    """
    rows = torch.from_numpy(rows_B)
    expression_B = torch.from_numpy(labels_B)
    table = lake.table.take(rows_B) if info.landmarks or info.attributes else None
    return FaceBatch(
        faces_BCHW=faces_of(lake, rows_B, run),
        expression_B=expression_B,
        target_expression_B=expression_B,
        subject_B=torch.full_like(rows, -1),
        row_B=rows,
        key_B=rows,
        synthetic_B=torch.zeros(len(rows), dtype=torch.bool),
        landmarks_BL3=_landmarks(table, lake, run, info.landmarks) if info.landmarks else None,
        attributes_BA=torch.from_numpy(columns.attributes(table, info.attributes))
        if info.attributes
        else None,
    )


def faces_of(lake: Lake, rows_B: np.ndarray, run: RunConfig) -> Tensor:
    """The faces of those rows, cut out centrally, [B, C, H, W] in [-1, 1]."""
    lake.mapped.expect(rows_B)
    faces_BHWC = torch.from_numpy(np.ascontiguousarray(lake.faces[rows_B]))
    return centre_crop(faces_BHWC.permute(0, 3, 1, 2), run.data.image_size, grey=run.data.grey)


def with_reference(batch: FaceBatch, faces_BCHW: Tensor, class_B: Tensor) -> FaceBatch:
    """The batch with faces whose expression is to be transferred, and the classes they show."""
    return replace(
        batch,
        target_expression_B=class_B,
        partners={**batch.partners, "reference": faces_BCHW},
        partner_expression={**batch.partner_expression, "reference": class_B},
        partner_valid={**batch.partner_valid, "reference": torch.ones_like(class_B).bool()},
    )


def _landmarks(table: pa.Table, lake: Lake, run: RunConfig, count: int) -> Tensor:
    """Landmarks [B, L, 3] in the pixels of the central crop; `count` where no face has any."""
    landmarks_BL3 = torch.from_numpy(columns.landmarks(table, count))
    landmarks_BL3[..., :2] -= (lake.faces.shape[1] - run.data.image_size) // 2
    return landmarks_BL3


@contextmanager
def evaluating(system: System) -> Iterator[None]:
    """Every network of the system in eval mode; afterwards each module is as it was."""
    modules = [module for player in system.players() for module in player.module.modules()]
    before = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training


def logits_of(system: System, batch: FaceBatch, *, flip: bool) -> Tensor:
    """The logits [B, K] of the batch; with `flip` the mean with those of its mirror image."""
    logits_BK = system.predict(batch).logits_BK
    assert logits_BK is not None, "only systems that recognise are asked for expressions"
    if not flip:
        return logits_BK
    mirrored_BK = system.predict(mirrored(batch)).logits_BK
    assert mirrored_BK is not None
    return (logits_BK + mirrored_BK) / 2


def mirrored(batch: FaceBatch) -> FaceBatch:
    """The batch seen in a mirror, its landmarks with it."""
    landmarks_BL3 = batch.landmarks_BL3
    if landmarks_BL3 is not None:
        landmarks_BL3 = landmarks_BL3[:, flipped_landmarks(landmarks_BL3.shape[1])]
        side = batch.faces_BCHW.shape[3]
        landmarks_BL3[..., 0] = side - 1 - landmarks_BL3[..., 0]
    return replace(batch, faces_BCHW=batch.faces_BCHW.flip(3), landmarks_BL3=landmarks_BL3)


def _batches(index_N: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(index_N), BATCH_IMAGES):
        yield index_N[start : start + BATCH_IMAGES]


def labels_of(
    lake: Lake, rows_N: np.ndarray, info: DatasetInfo, *, strangers: bool = False
) -> np.ndarray:
    """The class indices of the given rows, -1 in a run without classes.

    A row that has none of the run's classes is a ValueError, or with `strangers` -1 as well.
    """
    if not info.classes:
        return np.full(len(rows_N), -1)
    names = lake.table["expression"].take(rows_N).to_pylist()
    index = {str(expression): number for number, expression in enumerate(info.classes)}
    unknown = sorted({str(name) for name in names} - set(index))
    if unknown and not strangers:
        raise ValueError(
            f"faces of {', '.join(unknown)} cannot be evaluated by a system that was trained on "
            f"{', '.join(info.classes)}"
        )
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def subjects_of(lake: Lake, rows_N: np.ndarray) -> np.ndarray:
    """The subject of each row, as text; its clip, or one of its own, where the corpus is silent."""
    names = lake.table["subject"].take(rows_N).to_pylist()
    clips = [None] * len(names)
    if "sequence" in lake.table.column_names:
        clips = lake.table["sequence"].take(rows_N).to_pylist()
    return np.array([_subject(*one) for one in zip(names, clips, rows_N, strict=True)], "U")


def _subject(name: str | None, clip: str | None, row: int) -> str:
    return name or NAMELESS + (str(row) if clip is None else f"/clip/{clip}")


def scorecard(
    predictions: Predictions,
    classes: Sequence[str],
    *,
    seed: int = 0,
    num_resamples: int = 2000,
) -> dict[str, Any]:
    """Accuracy, mean class recall and macro F1 with their intervals, and what lies behind them.

    Plain JSON values. `confusion` counts faces, truth by row; a class without a face has recall
    None. `calibration_error` is the expected calibration error over 15 bins. `per_subject` is the
    accuracy of each subject whose name is known.
    """
    if not len(predictions):
        raise ValueError("there is no face to make a scorecard of")
    counts_SKK = predictions.confusions()
    pooled_KK = counts_SKK.sum(axis=0)
    figures = subject_intervals(counts_SKK)
    figures |= statistics.subject_bootstrap(
        statistics.calibration_sums(predictions.logits, predictions.labels, predictions.subjects),
        {"calibration_error": statistics.calibration_error},
        num_resamples=num_resamples,
        seed=seed,
        recentred=True,
    )
    recall_K = statistics.class_recall(pooled_KK)
    return {
        **{name: asdict(interval) for name, interval in figures.items()},
        "per_class": {
            str(name): None if np.isnan(recall) else float(recall)
            for name, recall in zip(classes, recall_K, strict=True)
        },
        "per_subject": _per_subject(predictions, counts_SKK),
        "confusion": pooled_KK.astype(int).tolist(),
        "classes": [str(name) for name in classes],
        "num_faces": len(predictions),
        "num_subjects": len(counts_SKK),
        "estimator": ESTIMATOR,
    }


def _per_subject(predictions: Predictions, counts_SKK: np.ndarray) -> dict[str, float]:
    names_S = np.unique(predictions.subjects).tolist()
    accuracy_S = statistics.accuracy(counts_SKK).tolist()
    pairs = zip(names_S, accuracy_S, strict=True)
    return {name: value for name, value in pairs if not name.startswith(NAMELESS)}


def pooled(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several folds as one set, in the order of the lake's rows."""
    rows_N = np.concatenate([part.rows for part in parts])
    if len(np.unique(rows_N)) != len(rows_N):
        raise ValueError("the folds overlap: a face is predicted more than once")
    order = np.argsort(rows_N)
    return Predictions(
        rows=rows_N[order],
        labels=np.concatenate([part.labels for part in parts])[order],
        logits=np.concatenate([part.logits for part in parts])[order],
        subjects=np.concatenate([part.subjects for part in parts])[order],
    )


def write_predictions(predictions: Predictions, path: Path) -> None:
    """The predictions as an uncompressed .npz, in place only when whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            rows=predictions.rows,
            labels=predictions.labels,
            logits=predictions.logits,
            subjects=predictions.subjects,
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def read_predictions(path: Path) -> Predictions:
    """What `write_predictions` wrote; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as arrays:
        return Predictions(
            **{name: arrays[name] for name in ("rows", "labels", "logits", "subjects")}
        )

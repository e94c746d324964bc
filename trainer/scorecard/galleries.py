"""Pictures of what a trained system does: edits, transfers, sweeps, maps of attention, its errors.

Shapes: R rows, M columns, B faces, C channels, H height, W width, K classes, L levels.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional

from data_service.schema import FaceBatch
from trainer.pictures import as_pixels, captioned_faces, face_grid, heat
from trainer.scorecard.evaluate import Predictions, evaluating, with_reference
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.samples import edited, sample_grid, sample_rows, subject_names

_ERRORS, _ERRORS_PER_ROW = 24, 8
_FACES = 6
_LEVELS = np.linspace(0, 1, 6)


def gallery(examinee: Examinee, predictions: Predictions | None) -> dict[str, np.ndarray]:
    """Pictures (uint8, H x W x 3) by name, those that the system's capabilities allow."""
    found: dict[str, np.ndarray] = {}
    with evaluating(examinee.system), torch.no_grad():
        if examinee.can("synthesise"):
            found["edits"] = edits(examinee)
        if examinee.can("intensity"):
            found["sweeps"] = sweeps(examinee)
        if examinee.can("transfer"):
            found["transfers"] = transfers(examinee)
        if (maps := attention(examinee)) is not None:
            found["maps"] = maps
    if predictions is not None and (worst := errors(examinee, predictions)) is not None:
        found["errors"] = worst
    return found


def edits(examinee: Examinee) -> np.ndarray:
    """A row per subject, a column per expression after the source."""
    return sample_grid(
        examinee.system,
        examinee.lake,
        examinee.rows_N,
        examinee.run,
        examinee.info,
        examinee.device,
    )


def sweeps(examinee: Examinee) -> np.ndarray:
    """One subject: a row per expression, a column per intensity after the source."""
    (one,) = examinee.batches(sample_rows(examinee.lake, examinee.rows_N, 1))
    rows = []
    for target in range(len(examinee.info.classes)):
        faces = [edited(examinee.system, one, target, float(level)) for level in _LEVELS]
        rows.append(np.concatenate([as_pixels(face) for face in (one.faces_BCHW, *faces)]))
    return face_grid(
        np.stack(rows),
        columns=["source", *(f"{level:.1f}" for level in _LEVELS)],
        rows=[str(name) for name in examinee.info.classes],
    )


def transfers(examinee: Examinee) -> np.ndarray:
    """Every subject of the rows with the expression that another one, above, shows."""
    shown_N = _one_per_class(examinee)
    targets_N = sample_rows(examinee.lake, examinee.rows_N, _FACES)
    (shown,) = examinee.batches(shown_N)
    (targets,) = examinee.batches(targets_N)
    columns = [
        as_pixels(_transferred(examinee, targets, shown.slice(index, index + 1)))
        for index in range(len(shown))
    ]
    blank_1HW3 = np.full_like(as_pixels(targets.faces_BCHW[:1]), 255)
    top = np.concatenate([blank_1HW3, as_pixels(shown.faces_BCHW)])
    below = np.stack([as_pixels(targets.faces_BCHW), *columns], axis=1)
    names = [str(examinee.info.classes[label]) for label in shown.expression_B.tolist()]
    return face_grid(
        np.concatenate([top[None], below]),
        columns=["target", *names],
        rows=["source", *subject_names(examinee.lake, targets_N)],
    )


def _one_per_class(examinee: Examinee) -> np.ndarray:
    """A face of each class, of different subjects as far as there are."""
    labels_N, subjects_N = examinee.labels(examinee.rows_N), examinee.subjects(examinee.rows_N)
    chosen: list[int] = []
    taken: set[str] = set()
    for label in np.unique(labels_N):
        own = np.flatnonzero(labels_N == label)
        fresh = [index for index in own if subjects_N[index] not in taken]
        chosen.append(int((fresh or own.tolist())[0]))
        taken.add(str(subjects_N[chosen[-1]]))
    return examinee.rows_N[chosen]


def _transferred(examinee: Examinee, targets: FaceBatch, shown: FaceBatch) -> Tensor:
    count = len(targets)
    asked = with_reference(
        targets,
        shown.faces_BCHW.expand(count, -1, -1, -1),
        shown.expression_B.expand(count),
    )
    images_BCHW = examinee.system.predict(asked).images_BCHW
    assert images_BCHW is not None
    return images_BCHW


def attention(examinee: Examinee) -> np.ndarray | None:
    """Where the system's gates open and its attention lies, over a few faces; None without maps.

    Dark to bright is from the least to the largest value that stands above each map, over all
    faces shown; maps of several channels are shown by their mean.
    """
    (batch,) = examinee.batches(sample_rows(examinee.lake, examinee.rows_N, _FACES))
    maps = examinee.system.predict(batch).maps
    if not maps:
        return None
    faces_BHW3 = as_pixels(batch.faces_BCHW)
    columns, titles = [faces_BHW3], ["face"]
    for name, values in maps.items():
        map_BSS = _flat_map(values, faces_BHW3.shape[1])
        low, high = float(map_BSS.min()), float(map_BSS.max())
        columns.append(heat(faces_BHW3, (map_BSS - low) / max(high - low, 1e-6)))
        titles.append(f"{_in_lines(name)}\n{low:.2f} to {high:.2f}")
    return face_grid(np.stack(columns, axis=1), columns=titles)


def _flat_map(values: Tensor, side: int) -> np.ndarray:
    """Maps [B], [B, C], [B, H, W] or [B, C, H, W] as [B, S, S], the mean over channels."""
    values = values.detach().float()
    if values.dim() == 3:
        values = values.unsqueeze(1)
    values_BCHW = values.reshape(*values.shape, *[1] * (4 - values.dim()))
    mean_B1HW = values_BCHW.mean(1, keepdim=True)
    sized_BSS = functional.interpolate(mean_B1HW, size=(side, side), mode="nearest")[:, 0]
    return sized_BSS.cpu().numpy()


def _in_lines(name: str) -> str:
    """Each part of a dotted name on its own line, to fit over a face."""
    return name.replace("/", "\n").replace(".", "\n").replace("to_", "to ")


def errors(examinee: Examinee, predictions: Predictions) -> np.ndarray | None:
    """The faces that were read wrongly with the most confidence; None where all are right."""
    wrong_N = np.flatnonzero(predictions.predicted != predictions.labels)
    if not len(wrong_N):
        return None
    sure_N = softmax(predictions.logits, axis=1).max(axis=1)
    worst_N = wrong_N[np.argsort(-sure_N[wrong_N], kind="stable")[:_ERRORS]]
    faces = [as_pixels(batch.faces_BCHW) for batch in examinee.batches(predictions.rows[worst_N])]
    names = [str(name) for name in examinee.info.classes]
    captions = [
        f"{names[predictions.labels[index]]}\nread {names[predictions.predicted[index]]}"
        f"\n{sure_N[index]:.0%}"
        for index in worst_N
    ]
    return captioned_faces(np.concatenate(faces), captions, per_row=_ERRORS_PER_ROW)

"""Pictures of what a generator does: the same faces with every expression, and rising intensity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo, Expression, FaceBatch
from trainer.config import RunConfig
from trainer.pictures import as_pixels, face_grid
from trainer.scorecard.evaluate import evaluating, evaluation_batch, labels_of
from trainer.system import System

_ROWS = 6


def sample_rows(lake: Lake, rows_N: np.ndarray, count: int = _ROWS) -> np.ndarray:
    """One face each of `count` subjects among the rows, neutral where possible, evenly spread."""
    table = lake.table.take(rows_N)
    subjects, expressions = table["subject"].to_pylist(), table["expression"].to_pylist()
    first: dict[str, int] = {}
    for row, subject, expression in zip(rows_N, subjects, expressions, strict=True):
        name = subject or f"row {row}"
        if name not in first or (
            expression == Expression.NEUTRAL
            and lake.table["expression"][first[name]].as_py() != Expression.NEUTRAL
        ):
            first[name] = int(row)
    chosen = np.array(sorted(first.values()), dtype=np.int64)
    return chosen[np.linspace(0, len(chosen) - 1, min(count, len(chosen))).astype(int)]


@torch.no_grad()
def edited(system: System, batch: FaceBatch, target: int, intensity: float | None = None) -> Tensor:
    """The batch's faces with class `target`, at `intensity` in [0, 1], [B, C, H, W]."""
    aim_B = torch.full_like(batch.target_expression_B, target)
    level_B = None if intensity is None else torch.full(aim_B.shape, intensity, device=aim_B.device)
    with evaluating(system):
        asked = replace(batch, target_expression_B=aim_B, target_intensity_B=level_B)
        images_BCHW = system.predict(asked).images_BCHW
    assert images_BCHW is not None, "only systems that synthesise are asked for edits"
    return images_BCHW


def sample_grid(
    system: System,
    lake: Lake,
    rows_N: np.ndarray,
    run: RunConfig,
    info: DatasetInfo,
    device: torch.device | str,
    *,
    intensity: bool = False,
) -> np.ndarray:
    """A picture uint8 [H, W, 3]: a row per subject, a column per expression after the source.

    With `intensity` a last row shows one face from no to full happiness (or the first class).
    """
    rows_N = sample_rows(lake, np.asarray(rows_N))
    labels_N = labels_of(lake, rows_N, info)
    batch = evaluation_batch(lake, rows_N, labels_N, run, info).to(device)
    columns = [batch.faces_BCHW] + [edited(system, batch, k) for k in range(len(info.classes))]
    grid = [as_pixels(column) for column in columns]
    names = [str(name) for name in subject_names(lake, rows_N)]
    if intensity:
        rising = _rising(system, batch, info, len(columns))
        grid = [np.concatenate([column, extra]) for column, extra in zip(grid, rising, strict=True)]
        names.append("rising")
    return face_grid(
        np.stack(grid, axis=1), columns=["source", *map(str, info.classes)], rows=names
    )


def _rising(system: System, batch: FaceBatch, info: DatasetInfo, count: int) -> list[np.ndarray]:
    """One face in `count` steps from intensity 0 to 1."""
    classes = list(info.classes)
    target = classes.index(Expression.HAPPINESS) if Expression.HAPPINESS in classes else 0
    one = batch.slice(0, 1)
    levels = np.linspace(0, 1, count - 1)
    faces = [one.faces_BCHW] + [edited(system, one, target, float(level)) for level in levels]
    return [as_pixels(face) for face in faces]


def subject_names(lake: Lake, rows_N: np.ndarray) -> list[str]:
    """The subjects of the rows, for the margin of a picture."""
    return [name or "?" for name in lake.table["subject"].take(rows_N).to_pylist()]

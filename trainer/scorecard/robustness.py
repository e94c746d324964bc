"""How recognition stands occlusion, and where the corpus tells it, the pose of the head.

Shapes: N faces, K classes, S subjects.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from data_service.lakes import columns
from trainer.scorecard import statistics
from trainer.scorecard.evaluate import Predictions, predict_rows
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.intervals import paired_difference, subject_intervals
from trainer.scorecard.occlusion import OCCLUSIONS, occluded
from trainer.world import World

YAW_DEGREES = (0.0, 15.0, 30.0, 45.0, 90.0)
"""Borders of the groups of poses; the last one belongs to its group."""
_FIGURES = {"accuracy": statistics.accuracy, "macro_recall": statistics.macro_recall}


def occlusion_card(examinee: Examinee, clear: Predictions) -> dict[str, Any]:
    """Recognition under each occlusion, and what is lost against the same faces uncovered.

    `clear` are the predictions of these faces as they are. Plain JSON values by occlusion.
    """
    found = {}
    for kind in OCCLUSIONS:
        covered = predict_rows(
            examinee.system,
            examinee.lake,
            clear.rows,
            examinee.run,
            examinee.info,
            World.alone(str(examinee.device)),
            change=lambda batch, kind=kind: occluded(
                batch, kind, examinee.lake.manifest.image_size
            ),
        )
        lost = paired_difference(
            clear.confusions(), covered.confusions(), statistics.accuracy, seed=examinee.run.seed
        )
        found[kind] = {**_figures(covered), "lost": asdict(lost)}
    return found


def pose_card(examinee: Examinee, predictions: Predictions) -> dict[str, Any] | None:
    """Recognition by how far the head is turned (the attribute `yaw`); None where nobody knows."""
    table = examinee.lake.table.take(predictions.rows)
    yaw_N = np.abs(columns.attributes(table, ["yaw"])[:, 0])
    found = {}
    for low, high in pairwise(YAW_DEGREES):
        own_N = (yaw_N >= low) & ((yaw_N < high) | (high == YAW_DEGREES[-1]))
        if own_N.any():
            part = Predictions(
                rows=predictions.rows[own_N],
                labels=predictions.labels[own_N],
                logits=predictions.logits[own_N],
                subjects=predictions.subjects[own_N],
            )
            found[f"yaw {low:g} to {high:g}"] = _figures(part)
    return found or None


def _figures(predictions: Predictions) -> dict[str, Any]:
    found = subject_intervals(predictions.confusions(), _FIGURES)
    return {**{name: asdict(one) for name, one in found.items()}, "num_faces": len(predictions)}

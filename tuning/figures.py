"""Figures besides recognition, read from MLflow with their intervals, and objectives by name."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tuning.objectives import ON_TEST, SPEED
from tuning.recorded import mean_metric, tag
from tuning.rows import Evidence, Row

if TYPE_CHECKING:
    from mlflow.entities import Run

IN_COLUMNS = (
    *("accuracy", "macro_", "recall_", "calibration_error"),
    *("images_per_second", "first_step_seconds", "num_faces"),
)
BOUNDS = ("_low", "_high")
SHOWN = {"test/": "", "final/": "validation "}
"""Metrics in MLflow by their beginnings, and what a figure's name begins with instead."""
IN_MLFLOW = ON_TEST | {"verification_auc": "identification/rank_1"}
"""MLflow is not told the AUC of test subjects; rank-1 is of the same, and has an interval."""
ON_VALIDATION = {"macro_recall": "validation_macro_recall", SPEED: SPEED}
"""Objectives that are columns of their own."""


def other_figures(
    group: Sequence[Run], wanted: Collection[str]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """What a system is measured by besides recognition, such as the accuracy of its edits.

    The means over the runs, and the intervals of those that have one. Figures that have columns of
    their own are left out, but for the `wanted`.
    """
    figures, bounds = {}, {}
    for prefix, shown in SHOWN.items():
        names = {name for run in group for name in run.data.metrics if name.startswith(prefix)}
        for name in sorted(names):
            own = name.removeprefix(prefix)
            is_other = shown + own in wanted or not own.startswith(IN_COLUMNS)
            value = mean_metric(group, name)
            if value is None or own.endswith(BOUNDS) or not is_other:
                continue
            figures[shown + own] = value
            if reach := _reach(group, name):
                bounds[shown + own] = (value - reach[0], value + reach[1])
    return figures, bounds


def _reach(group: Sequence[Run], name: str) -> tuple[float, float] | None:
    """How far the interval of a mean over runs goes down and up; None where a run has none.

    Seeds measure the same subjects and have their uncertainty in common; folds measure others each,
    whose independent uncertainties make up that of the mean.
    """
    by_fold: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in group:
        low, value, high = (run.data.metrics.get(f"{name}{end}") for end in ("_low", "", "_high"))
        if value is None or not math.isfinite(value):
            continue
        if low is None or high is None or not math.isfinite(high - low):
            return None
        by_fold[tag(run, "mien.fold")].append((value - low, high - value))
    if not by_fold:
        return None
    folds = [[sum(way) / len(way) for way in zip(*own, strict=True)] for own in by_fold.values()]
    down, up = (math.hypot(*way) / len(folds) for way in zip(*folds, strict=True))
    return down, up


def named(objectives: Sequence[str], evidence: Evidence) -> tuple[str, ...]:
    """A study's objectives as a row of this evidence has them; predictions rank by recognition."""
    if evidence == "validation":
        return tuple(ON_VALIDATION.get(name, f"validation {name}") for name in objectives)
    figures = [IN_MLFLOW.get(name, name) for name in objectives]
    if evidence == "predictions":
        figures = ["macro_recall", *(name for name in figures if name != "macro_recall")]
    return tuple(figures)


def usual(row: Row) -> tuple[str, ...]:
    """What a row without a study is ordered by; empty for nothing.

    It is the first objective of a search that the row has, and never its speed.
    """
    names = named([name for name in ON_TEST if name != SPEED], row.evidence)
    return tuple(name for name in names if row.value_of(name) is not None)[:1]

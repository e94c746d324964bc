"""What a page shows of single rows beyond their figures: curves, confusion matrix, edited faces."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cluster.home import runs_dir
from tuning.recorded import tag, tested_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CURVE_PREFIXES = ("validation/", "gate/", "train/")
CURVE_POINTS = 80
PICTURE_QUALITY = 82
PICTURE_PIXELS = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A metric over images seen: the mean of a row's runs, and the band that they span."""

    x: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """What is known of one row.

    `picture` is a JPEG as text (base64), of validation faces of the fold `pictured`.
    """

    curves: Mapping[str, Curve] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    picture: str | None = None
    pictured: str = ""


def details_of(client: MlflowClient, runs: Sequence[Run]) -> Details:
    """The details of a row whose runs these are; what was not recorded is left out."""
    classes, confusion = _confusion(client, runs)
    pictures = ((_picture(client, run), tag(run, "mien.fold")) for run in runs)
    picture, pictured = next((found for found in pictures if found[0]), (None, ""))
    return Details(
        curves=_curves(client, runs),
        classes=classes,
        confusion=confusion,
        picture=picture,
        pictured=pictured,
    )


def _curves(client: MlflowClient, runs: Sequence[Run]) -> dict[str, Curve]:
    names = sorted({name for run in runs for name in run.data.metrics})
    found = {}
    for name in names:
        if not name.startswith(CURVE_PREFIXES):
            continue
        own = [run.info.run_id for run in runs if name in run.data.metrics]
        histories = [client.get_metric_history(run_id, name) for run_id in own]
        points = [{item.step: item.value for item in history} for history in histories]
        if curve := curve_of(points):
            found[name] = curve
    return found


def curve_of(points: Sequence[Mapping[int, float]]) -> Curve | None:
    """The histories (value by step) as one curve, over the steps of the longest; None if empty.

    A run counts up to its last step. Steps that not every run has are read off between its own.
    """
    finite = [
        {step: value for step, value in history.items() if np.isfinite(value)} for history in points
    ]
    histories = [history for history in finite if history]
    if not histories:
        return None
    steps = np.array(sorted(max(histories, key=len)))
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, CURVE_POINTS).astype(int))]
    values = np.full((len(histories), len(steps)), np.nan)
    for row, history in enumerate(histories):
        own = np.array(sorted(history))
        within = steps <= own[-1]
        values[row, within] = np.interp(steps[within], own, [history[step] for step in own])
    return Curve(
        x=tuple(int(step) for step in steps),
        mean=_brief(np.nanmean(values, axis=0)),
        low=_brief(np.nanmin(values, axis=0)),
        high=_brief(np.nanmax(values, axis=0)),
    )


def _brief(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def _confusion(
    client: MlflowClient, runs: Sequence[Run]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Classes and test faces (truth by row) over the row's folds; the mean over its seeds."""
    tested = tested_of(client, runs, "predictions")
    if tested is None:
        return (), ()
    counts_KK = np.round(tested.counts_SKK.sum(axis=0)).astype(int)
    card = (_result(client, runs[0].info.run_id) or {}).get("scorecard") or {}
    classes = card.get("classes") or [f"class {number + 1}" for number in range(len(counts_KK))]
    return tuple(classes), tuple(tuple(map(int, row)) for row in counts_KK)


def _result(client: MlflowClient, run_id: str) -> dict[str, Any] | None:
    local = runs_dir() / run_id / "result.json"
    if local.exists():
        return json.loads(local.read_text())
    if all(item.path != "result.json" for item in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(
            Path(client.download_artifacts(run_id, "result.json", folder)).read_text()
        )


def _picture(client: MlflowClient, run: Run) -> str | None:
    """The run's last grid of edited faces."""
    found = [
        item.path
        for item in client.list_artifacts(run.info.run_id, "images")
        if Path(item.path).name.startswith("samples+step+") and item.path.endswith(".png")
    ]
    if not found:
        return None
    last = max(found, key=lambda path: int(Path(path).name.split("+")[2]))
    with tempfile.TemporaryDirectory() as folder:
        with Image.open(client.download_artifacts(run.info.run_id, last, folder)) as image:
            return jpeg(image.convert("RGB"))


def jpeg(image: Image.Image) -> str:
    """The picture as JPEG, at most `PICTURE_PIXELS` wide, as text."""
    image.thumbnail((PICTURE_PIXELS, 4 * PICTURE_PIXELS))
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=PICTURE_QUALITY)
    return base64.b64encode(data.getvalue()).decode()

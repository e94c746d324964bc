"""What MLflow holds of an experiment: its runs, and the test predictions of each."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.home import runs_dir
from cluster.mlflow_store import ensure_store, sqlite_path
from trainer.scorecard.evaluate import Predictions, read_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE_RUNS = 1000
PARENT = "mlflow.parentRunId"


def open_store(uri: str) -> MlflowClient:
    """A client of a store that exists; ValueError where nothing has been recorded yet."""
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise ValueError(f"nothing has been recorded yet: there is no {database}")
    return ensure_store(uri)


def runs_of(client: MlflowClient, uri: str, experiment: str) -> list[Run]:
    """Every run of the experiment; ValueError where there is none, naming the experiments."""
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage != "active":
        names = [item.name for item in client.search_experiments() if item.name != "Default"]
        listed = ", ".join(sorted(names)) or "none yet"
        raise ValueError(f"no experiment '{experiment}' in {uri}; there are: {listed}")
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([found.experiment_id], max_results=PAGE_RUNS, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            break
    if not runs:
        raise ValueError(f"the experiment '{experiment}' has no runs yet")
    return runs


def by_id(runs: Iterable[Run]) -> dict[str, Run]:
    """The runs by their ids."""
    return {run.info.run_id: run for run in runs}


def tag(run: Run, name: str) -> str:
    """A tag of the run, empty where it has none."""
    return run.data.tags.get(name, "")


def above(run: Run, known: Mapping[str, Run], kind: str) -> Run | None:
    """The run of that kind that this one belongs to, at any depth; None where there is none."""
    parent = known.get(tag(run, PARENT))
    while parent is not None and tag(parent, "mien.kind") != kind:
        parent = known.get(tag(parent, PARENT))
    return parent


def predictions_of(client: MlflowClient, run: Run) -> Predictions | None:
    """The test predictions of a run: from its directory if it is here, else from its artifacts."""
    local = runs_dir() / run.info.run_id / "predictions.npz"
    if local.exists():
        return read_predictions(local)
    if all(item.path != "predictions.npz" for item in client.list_artifacts(run.info.run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run.info.run_id, "predictions.npz", folder)
        return read_predictions(Path(path))


def mean_metric(group: Sequence[Run], *names: str) -> float | None:
    """The mean over the runs of the last value of the first of these metrics that any run has."""
    for name in names:
        values = [run.data.metrics[name] for run in group if name in run.data.metrics]
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            return sum(finite) / len(finite)
    return None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tested:
    """The test of one row: one confusion matrix per subject, the mean over seeds."""

    faces: str
    subjects: np.ndarray
    counts_SKK: np.ndarray


def tested_of(client: MlflowClient, group: Sequence[Run]) -> Tested | None:
    """All folds' test predictions as one confusion matrix per subject; None if a run has none."""
    parts = [predictions_of(client, run) for run in group]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    rows = np.concatenate([part.rows for part in found])
    labels = np.concatenate([part.labels for part in found])
    subjects = np.concatenate([part.subjects for part in found])
    num_classes = found[0].logits.shape[1]
    predicted = np.concatenate([part.predicted for part in found])
    unique, first, inverse, repeats = np.unique(
        rows, return_index=True, return_inverse=True, return_counts=True
    )
    digest = hashlib.blake2b(unique.tobytes() + labels[first].tobytes(), digest_size=8)
    digest.update(bytes([num_classes]))
    names = np.unique(subjects)
    counts = np.zeros((len(names), num_classes, num_classes))
    cells = (np.searchsorted(names, subjects), labels, predicted)
    np.add.at(counts, cells, 1.0 / repeats[inverse])
    return Tested(faces=digest.hexdigest(), subjects=names, counts_SKK=counts)

"""What MLflow holds of an experiment: its runs, and the predictions of each."""

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
from tuning.rows import Evidence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE_RUNS = 1000
PARENT = "mlflow.parentRunId"
KEPT: Mapping[Evidence, tuple[str, str]] = {
    "predictions": ("predictions.npz", "test/accuracy"),
    "validation": ("validation.npz", "final/num_faces"),
}
"""By evidence the file of a run's predictions, and a metric of every run whose artifacts have it:
without that, MLflow is not asked for the file."""


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


def predictions_of(client: MlflowClient, run: Run, evidence: Evidence) -> Predictions | None:
    """The predictions of a run for its test or its validation subjects; None where it has none.

    From its directory if that is here, else from its artifacts.
    """
    name, told_by = KEPT[evidence]
    run_id = run.info.run_id
    local = runs_dir() / run_id / name
    if local.exists():
        return read_predictions(local)
    if told_by not in run.data.metrics:
        return None
    if all(item.path != name for item in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read_predictions(Path(client.download_artifacts(run_id, name, folder)))


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
    """How one row's runs recognised their subjects: a confusion matrix each, the mean over seeds.

    `faces` is equal for rows of the same faces, labels and number of classes.
    """

    faces: str
    subjects: np.ndarray
    counts_SKK: np.ndarray


def tested_of(client: MlflowClient, group: Sequence[Run], evidence: Evidence) -> Tested | None:
    """All folds' predictions as one confusion matrix per subject; None if a run has none.

    Those of test subjects ("predictions"), or those of validation subjects ("validation").
    """
    found = []
    for run in group:
        part = predictions_of(client, run, evidence)
        if part is None:
            return None
        found.append(part)
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

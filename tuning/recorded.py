"""What MLflow holds of an experiment: its runs, and the test predictions of each."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.home import runs_dir
from cluster.mlflow_store import ensure_store, sqlite_path
from trainer.evaluate import Predictions, read_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE_RUNS = 1000


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

"""Where runs are recorded: clients of MLflow, and the database behind them."""

from __future__ import annotations

import base64
import json
import logging
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cluster.home import home, tracking_file
from cluster.lock import held
from cluster.mlflow_app import USER, read_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

VIEW = "mien"
VIEW_COLUMNS = (
    "attributes.`Source`",
    "metrics.`test/macro_recall`",
    "metrics.`test/macro_recall_low`",
    "metrics.`test/macro_recall_high`",
    "metrics.`test/accuracy`",
    "metrics.`final/macro_recall`",
    "metrics.`final/edit_accuracy`",
    "metrics.`final/images_per_second`",
    "tags.`mien.lake`",
)
NOTE = "Runs of mien: folds and trials are nested below their parents. `mien compare` ranks them."


def mlflow_client(uri: str) -> MlflowClient:
    """A client that gives up soon, sends nothing home and is silent on the terminal."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _show_password(uri)
    import mlflow

    for chatter in ("mlflow", "alembic"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)


def password_path() -> Path:
    """Where the password of this home's server lies, for its owner alone."""
    return home() / "mlflow-password"


_SHOWN: dict[str, str] = {}
"""What `_show_password` has put into the environment of this process."""


def _show_password(uri: str) -> None:
    """To the server of this home, and to no other, unless the environment names another."""
    given = _own_password(uri)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        if name in os.environ and os.environ[name] != _SHOWN.get(name):
            continue
        if name in given:
            os.environ[name] = _SHOWN[name] = given[name]
        elif _SHOWN.pop(name, None) is not None:
            os.environ.pop(name, None)


def _own_password(uri: str) -> dict[str, str]:
    """The variables that open the server of this home; none where the address is another."""
    ours = set()
    with suppress(FileNotFoundError):
        ours.add(tracking_file().read_text().strip())
    with suppress(FileNotFoundError):
        ours.add(json.loads((home() / "mlflow-server.json").read_text())["address"])
    if uri not in ours or not password_path().is_file():
        return {}
    password = read_password(password_path())
    return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": password}


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite address; None for any other store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def ensure_store(uri: str) -> MlflowClient:
    """A client whose store exists; the tables of a new SQLite database take a second or two, once.

    Processes take turns, since two that make the tables at the same time would fail.
    """
    database = sqlite_path(uri)
    if database is None:
        return mlflow_client(uri)
    with held(database.with_name(f"{database.name}.lock")):
        return mlflow_client(uri)


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where the experiment's files go: beside a database that is used directly, else as served.

    A file address is readable both by a client of the database and by the server over it.
    """
    if uri.startswith(("http://", "https://", "databricks")):
        return None
    database = sqlite_path(uri)
    root = (database.parent if database else home()) / "artifacts"
    return (root.absolute() / quote(experiment, safe=" ")).as_uri()


def experiment_id(client: MlflowClient, uri: str, experiment: str) -> str:
    """The experiment of that name, made if it is new."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            location = artifact_location(uri, experiment)
            return client.create_experiment(experiment, location, tags=_page_tags())
        except MlflowException:
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"the experiment '{experiment}' was deleted in MLflow; choose another name"
        )
    return found.experiment_id


def page(address: str, experiment: str | None = None, run_id: str | None = None) -> str:
    """The page of all experiments, of one (by its id), or of one of its runs, as a person wants it.

    Without these words MLflow's page opens on what it has for language models.
    """
    root = f"{address.rstrip('/')}/#/experiments"
    if experiment is None:
        return f"{root}?workflowType=machine_learning"
    root = f"{root}/{experiment}/runs"
    if run_id is not None:
        return f"{root}/{run_id}?workflowType=machine_learning"
    return f"{root}?workflowType=machine_learning&viewStateShareKey={VIEW}"


def _page_tags() -> dict[str, str]:
    """What MLflow's page reads of a new experiment: its kind, its note, and the view of `page`."""
    state = {
        "selectedColumns": VIEW_COLUMNS,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "searchFilter": "",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "runsVisibilityMap": {},
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": NOTE,
        f"mlflow.sharedViewState.{VIEW}": f"deflate;{packed}",
    }

"""Where mien keeps what it makes: runs, studies, the tracking database, logs."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The directory of `MIEN_HOME`, by default `mien-home` below the working directory."""
    return Path(os.environ.get("MIEN_HOME", "mien-home")).absolute()


def runs_dir() -> Path:
    """Where each training run has its folder, named by its run id."""
    return home() / "runs"


def tracking_uri() -> str:
    """MLflow's address: `MLFLOW_TRACKING_URI`, by default a SQLite database under `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"

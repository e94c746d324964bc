"""Where mien keeps what it makes: runs, studies, the tracking database, logs."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cluster.lock import put_once


def home() -> Path:
    """The directory of `MIEN_HOME`, by default `mien-home` below the working directory."""
    path = Path(os.environ.get("MIEN_HOME", "mien-home"))
    directory(path)
    return path.absolute()


def directory(path: Path | None) -> Path | None:
    """The path; ValueError for the address of a storage service, where nothing is written."""
    scheme, colon, _ = str(path).partition(":/")
    if colon and scheme.isalnum():
        raise ValueError(
            f"{path} is no directory: a new lake, pools, checkpoints and artifacts lie in "
            f"directories; mount {scheme} storage, and name the mount"
        )
    return path


def runs_dir() -> Path:
    """Where each training run has its folder, named by its run id."""
    return home() / "runs"


def postgres_folder() -> Path:
    """Where this home's own PostgreSQL has its data, once `mien server start` has made it."""
    return home() / "postgres"


def tracking_file() -> Path:
    """Names the server that this home's commands track through; there only once it has one."""
    return home() / "tracking-uri"


def tracking_uri() -> str:
    """MLflow's address: `MLFLOW_TRACKING_URI`, else this home's server, else its SQLite database.

    ValueError for an address with a password in it.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return without_password(
            "MLFLOW_TRACKING_URI",
            given,
            "an HTTP server's in MLFLOW_TRACKING_PASSWORD, and PostgreSQL's in ~/.pgpass or "
            "?passfile=FILE",
        )
    with suppress(FileNotFoundError):
        return tracking_file().read_text().strip()
    return f"sqlite:///{home() / 'mlflow.db'}"


def without_password(variable: str, address: str, instead: str) -> str:
    """The address of an environment's variable; ValueError, with `instead`, for a password in it.

    Addresses are written into run.json and logs, and stand in environments of other processes.
    """
    parts = urlsplit(address)
    asked = {"password", "sslpassword"} & parse_qs(parts.query).keys()
    if parts.password or asked or _DATABASE_PASSWORD.match(address):
        raise ValueError(f"{variable} holds a password; give {instead}")
    return address


_DATABASE_PASSWORD = re.compile(r"(?!https?:)[\w+]+://[^/@:]+:[^@]+@")
"""A password as SQLAlchemy reads it: with / ? # in it, where an address of the web would end."""


def write_secret(path: Path, text: str) -> None:
    """Writes a file for its owner alone, wholly or not at all; one that is there stays."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        put_once(Path(draft), path)
    finally:
        Path(draft).unlink(missing_ok=True)

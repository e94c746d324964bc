"""Where the home's MLflow server is, and whether it answers, for whoever asks.

What starts and stops it is in cluster/mlflow_server.py.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster import postgres
from cluster.home import home, postgres_folder, tracking_uri
from cluster.mlflow_store import password_path

HOST = "127.0.0.1"
PORT = 5000
AUTHORITY = "MLFLOW_TRACKING_SERVER_CERT_PATH"
"""MLflow's own variable: the certificate of the authority that signed its server's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerState:
    """Where the server is, or would be; `process` and `began` are None where none runs.

    `machine` is the one that it was started on: machines may share a home.
    """

    address: str
    store: str
    log: str
    password_file: str
    process: int | None = None
    began: float | None = None
    machine: str = field(default_factory=socket.gethostname)

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self.process is not None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"running": self.running, **asdict(self)}


def status() -> ServerState:
    """The server that `start` started for this home, if it still lives.

    Of one that another machine started nothing can be seen from here; its word is taken for it.
    """
    own = postgres_folder()
    idle = ServerState(
        address=f"http://{HOST}:{PORT}",
        store=postgres.address(own) if postgres.exists(own) else tracking_uri(),
        log=str(log_path()),
        password_file=str(password_path()),
    )
    try:
        state = ServerState(**json.loads(state_path().read_text()))
    except FileNotFoundError:
        return idle
    return state if _lives(state) else idle


def health(address: str, seconds: float, trusting: ssl.SSLContext | None = None) -> int:
    """The status with which the server at the address says that it is there.

    Its certificate is judged as MLflow's clients judge it, or by `trusting`. OSError where nobody
    answers within so many seconds, or shows a certificate that is not trusted.
    """
    if trusting is None and address.startswith("https:"):
        trusting = ssl.create_default_context(cafile=os.environ.get(AUTHORITY) or None)
    with urllib.request.urlopen(f"{address}/health", timeout=seconds, context=trusting) as answer:
        return answer.status


def answers(address: str) -> bool:
    """Only whether it is there: its certificate is for the name by which clients call it."""
    trusting = ssl._create_unverified_context()
    with suppress(OSError):
        return health(address, 2, trusting) == 200
    return False


def state_path() -> Path:
    """The file that tells of the server, while there is one."""
    return home() / "mlflow-server.json"


def log_path() -> Path:
    """What the server says."""
    return home() / "mlflow-server.log"


def _lives(state: ServerState) -> bool:
    """Whether the process is the one that was started, not a later one of the same number."""
    assert state.process is not None and state.began is not None
    if state.machine != socket.gethostname():
        return True
    try:
        process = psutil.Process(state.process)
        return process.status() != psutil.STATUS_ZOMBIE and (
            abs(process.create_time() - state.began) < 1.0
        )
    except psutil.NoSuchProcess:
        return False

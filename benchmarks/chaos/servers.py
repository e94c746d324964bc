"""Faults of the servers that a run is tracked through: they die, and are started again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from benchmarks.chaos.trial import Trial, lives

AWAY_SECONDS = 3.0


@contextmanager
def mlflow(trial: Trial) -> Iterator[None]:
    """The trial tracks through an MLflow server over SQLite."""
    with _served(trial):
        yield


@contextmanager
def postgres(trial: Trial) -> Iterator[None]:
    """The trial tracks through an MLflow server over a PostgreSQL of its own."""
    with _served(trial, "--postgres"):
        yield


@contextmanager
def _served(trial: Trial, *options: str) -> Iterator[None]:
    port = str(_free_port())
    trial.call("server", "start", "--port", port, *options)
    trial.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    try:
        yield
    finally:
        trial.looked = None
        del trial.environment["MLFLOW_TRACKING_URI"]
        trial.call("server", "stop")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill_mlflow(trial: Trial, chance: random.Random) -> Sequence[psutil.Process]:
    """SIGKILL of the MLflow server and all that it started; another, after three seconds."""
    leader = json.loads((trial.home / "mlflow-server.json").read_text())["process"]
    os.killpg(leader, signal.SIGKILL)
    _start_again(trial)
    return []


def kill_postgres(trial: Trial, chance: random.Random) -> Sequence[psutil.Process]:
    """SIGKILL of PostgreSQL's first process; after three seconds both servers start anew."""
    told = (trial.home / "postgres/data/postmaster.pid").read_text()
    first = psutil.Process(int(told.split()[0]))
    rest = first.children()
    first.kill()
    while any(lives(process) for process in rest):
        trial.look()
    _start_again(trial)
    return []


def _start_again(trial: Trial) -> None:
    """As whoever runs the server would: stop what is left of it, and start it where it was."""
    trial.watch(AWAY_SECONDS)
    address = trial.environment.pop("MLFLOW_TRACKING_URI")
    trial.call("server", "stop")
    trial.call("server", "start", "--port", address.rpartition(":")[2])
    trial.environment["MLFLOW_TRACKING_URI"] = address

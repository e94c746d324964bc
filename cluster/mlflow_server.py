"""MLflow's tracking server for `home()`: start it, see whether it runs, stop it wholly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from cluster.home import home, tracking_uri
from cluster.mlflow_store import ensure_store, sqlite_path

HOST = "127.0.0.1"
PORT = 5000
START_SECONDS = 90.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerState:
    """Where the server is, or would be; `process` and `began` are None where none runs."""

    address: str
    store: str
    log: str
    process: int | None = None
    began: float | None = None

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self.process is not None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"running": self.running, **asdict(self)}


def start(*, host: str = HOST, port: int = PORT, allowed_hosts: Sequence[str] = ()) -> ServerState:
    """Start the server over the store of `tracking_uri()` and wait until it answers.

    It listens on this machine only unless `host` says otherwise; names by which other machines call
    it must then be among `allowed_hosts`. ValueError where it runs already, where the port is
    taken, or where the store is a server elsewhere. RuntimeError, with the log's end, if it dies.
    """
    state = status()
    if state.running:
        raise ValueError(
            f"the MLflow server already runs at {state.address} (process {state.process}); "
            f"`mien server stop` ends it"
        )
    store = tracking_uri()
    if store.startswith(("http://", "https://")):
        raise ValueError(
            f"MLFLOW_TRACKING_URI names a server elsewhere, {store}; none is needed here"
        )
    _check_free(host, port)
    home().mkdir(parents=True, exist_ok=True)
    ensure_store(store)
    process = _spawn(store, host, port, allowed_hosts)
    state = ServerState(
        address=f"http://{host}:{port}",
        store=store,
        log=str(_log_path()),
        process=process.pid,
        began=psutil.Process(process.pid).create_time(),
    )
    _write(_state_path(), json.dumps(asdict(state)))
    _wait_until_healthy(process, state)
    return state


def status() -> ServerState:
    """The server that `start` started for this home, if it still lives."""
    idle = ServerState(address=f"http://{HOST}:{PORT}", store=tracking_uri(), log=str(_log_path()))
    try:
        state = ServerState(**json.loads(_state_path().read_text()))
    except FileNotFoundError:
        return idle
    return state if _lives(state) else idle


def stop() -> ServerState:
    """End the server and every process that it started; returns what was stopped, if it ran."""
    state = status()
    if state.process is not None:
        _signal_group(state.process, signal.SIGTERM)
        if not _group_ended(state.process, STOP_SECONDS):
            _signal_group(state.process, signal.SIGKILL)
            _group_ended(state.process, STOP_SECONDS)
    _state_path().unlink(missing_ok=True)
    return state


def _state_path() -> Path:
    return home() / "mlflow-server.json"


def _log_path() -> Path:
    return home() / "mlflow-server.log"


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"port {port} of {host} cannot be used ({error.strerror}); another: --port N"
            ) from None


def _spawn(
    store: str, host: str, port: int, allowed_hosts: Sequence[str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (home() / "artifacts").as_uri()]
    database = sqlite_path(store)
    if database is not None:
        command += ["--default-artifact-root", (database.parent / "artifacts").as_uri()]
    if allowed_hosts:
        command += ["--allowed-hosts", ",".join(["localhost:*", "127.0.0.1:*", *allowed_hosts])]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    with _log_path().open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            cwd=home(),
        )


def _wait_until_healthy(process: subprocess.Popen[bytes], state: ServerState) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if _answers(state.address):
            return
        time.sleep(0.2)
    ended = process.poll() is not None
    stop()
    lines = _log_path().read_text(errors="replace").strip().splitlines()
    why = "ended at once" if ended else f"did not answer within {START_SECONDS:.0f} s"
    last = lines[-1] if lines else "nothing in its log"
    raise RuntimeError(f"the MLflow server {why}: {last} (all of it in {_log_path()})")


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
        return answer.status == 200
    return False


def _lives(state: ServerState) -> bool:
    """Whether the process is the one that was started, not a later one of the same number."""
    assert state.process is not None and state.began is not None
    try:
        process = psutil.Process(state.process)
        return process.status() != psutil.STATUS_ZOMBIE and (
            abs(process.create_time() - state.began) < 1.0
        )
    except psutil.NoSuchProcess:
        return False


def _signal_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, number)


def _group_ended(leader: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(ChildProcessError):
            os.waitpid(leader, os.WNOHANG)
        if not _group(leader):
            return True
        time.sleep(0.1)
    return False


def _group(leader: int) -> list[int]:
    """The processes of the server's group that still run."""
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        with suppress(ProcessLookupError, PermissionError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and (
                os.getpgid(process.info["pid"]) == leader
            ):
                found.append(process.info["pid"])
    return found

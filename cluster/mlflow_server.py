"""MLflow's tracking server for `home()`: start it and stop it wholly.

It asks for the password in `mlflow-password` at home (cluster/mlflow_app.py). Its store is an
SQLite database, or a PostgreSQL that starts and ends with it (cluster/postgres.py).
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster import mlflow_app, postgres
from cluster.home import home, postgres_folder, tracking_file, tracking_uri, write_secret
from cluster.mlflow_state import HOST, PORT, ServerState, answers, log_path, state_path, status
from cluster.mlflow_store import ensure_store, password_path, sqlite_path
from cluster.storage import Place

PROJECT = Path(__file__).resolve().parents[1]
START_SECONDS = 90.0
STOP_SECONDS = 10.0
ARTIFACTS = "mlflow-artifacts"
"""A file of the home: the address at which a server keeps artifacts, where that is not the home."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """PEM files: the certificate that the server shows, and its key."""

    certificate: Path
    key: Path


def start(
    *,
    host: str = HOST,
    port: int = PORT,
    allowed_hosts: Sequence[str] = (),
    own_postgres: bool = False,
    tls: Tls | None = None,
    artifacts: str | None = None,
) -> ServerState:
    """Start the server over this home's store and wait until it answers.

    It listens on this machine only unless `host` says otherwise; names by which other machines
    call it must then be among `allowed_hosts`. With `own_postgres`, and ever after in this home,
    the store is a PostgreSQL below it, and commands of this home track through the server. Where
    that alone has died, it alone is started.
    `artifacts` is an address that MLflow knows (`s3://bucket/folder`), under which such a server
    keeps its artifacts from then on, in place of a folder of the home.
    ValueError where it runs already, where the port is taken, where the store is a server
    elsewhere, where a file of `tls` is missing, or where artifacts lie elsewhere already.
    RuntimeError, with the log's end, if it dies.
    """
    state = status()
    _require_own(state)
    own = postgres_folder()
    if state.running and postgres.exists(own) and not postgres.running(own):
        postgres.start(own)
        return state
    if state.running:
        raise ValueError(
            f"the MLflow server already runs at {state.address} (process {state.process}); "
            f"`mien server stop` ends it"
        )
    for file in (tls.certificate, tls.key) if tls else ():
        if not file.is_file():
            raise ValueError(
                f"no such file: {file}; --tls-certificate and --tls-key name PEM files"
            )
    address = f"http{'s' if tls else ''}://{_called(host, allowed_hosts)}:{port}"
    _check_free(host, port)
    home().mkdir(parents=True, exist_ok=True)
    _ensure_password()
    own_postgres = own_postgres or postgres.exists(postgres_folder())
    moved_to = _new_address(artifacts, own_postgres)
    store = postgres.start(postgres_folder()) if own_postgres else _given_store()
    try:
        if moved_to is not None:
            _write(home() / ARTIFACTS, moved_to)
        state = _start_over(store, address, host, port, allowed_hosts, tls)
    except BaseException:
        if moved_to is not None:
            (home() / ARTIFACTS).unlink(missing_ok=True)
        if own_postgres:
            postgres.stop(postgres_folder())
        raise
    if own_postgres:
        _write(tracking_file(), address)
    return state


def _given_store() -> str:
    store = tracking_uri()
    if store.startswith(("http://", "https://")):
        raise ValueError(
            f"MLFLOW_TRACKING_URI names a server elsewhere, {store}; none is needed here"
        )
    return store


def _called(host: str, allowed_hosts: Sequence[str]) -> str:
    """The name by which clients call a server that listens on `host`."""
    if ":" in host:
        raise ValueError(
            f"--host {host}: IPv6 is not supported; 0.0.0.0 listens on every interface"
        )
    if host == "0.0.0.0":
        if not allowed_hosts:
            raise ValueError(f"--host {host} listens for other machines; name it for them: --allow")
        return allowed_hosts[0]
    return host


def _start_over(
    store: str,
    address: str,
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
    tls: Tls | None,
) -> ServerState:
    ensure_store(store)
    process = _spawn(store, host, port, allowed_hosts, tls)
    state = ServerState(
        address=address,
        store=store,
        log=str(log_path()),
        password_file=str(password_path()),
        process=process.pid,
        began=psutil.Process(process.pid).create_time(),
    )
    _write(state_path(), json.dumps(asdict(state)))
    near = f"{address.partition('://')[0]}://{HOST if host == '0.0.0.0' else host}:{port}"
    _wait_until_healthy(process, near)
    return state


def stop() -> ServerState:
    """End the server, every process that it started, and then its PostgreSQL; what was stopped.

    ValueError where another machine started it.
    """
    state = status()
    _require_own(state)
    if state.process is not None:
        _signal_group(state.process, signal.SIGTERM)
        if not _group_ended(state.process, STOP_SECONDS):
            _signal_group(state.process, signal.SIGKILL)
            _group_ended(state.process, STOP_SECONDS)
    state_path().unlink(missing_ok=True)
    if postgres.exists(postgres_folder()):
        postgres.stop(postgres_folder())
    return state


def _require_own(state: ServerState) -> None:
    if state.machine != socket.gethostname():
        raise ValueError(
            f"the MLflow server of this home runs on {state.machine}: start and stop it there; if "
            f"that machine is gone, remove {state_path()}"
        )


def _artifacts() -> str:
    """Where the server keeps what it is sent."""
    kept = home() / ARTIFACTS
    return kept.read_text() if kept.is_file() else (home() / "artifacts").as_uri()


def _new_address(address: str | None, own_postgres: bool) -> str | None:
    """Where artifacts are to lie from now on; None where that changes nothing.

    ValueError where it is no address, or where there are some elsewhere already: a server would not
    find them again.
    """
    if address is None or address == _artifacts():
        return None
    if not own_postgres:
        raise ValueError(
            f"--artifacts {address} needs --postgres: the artifacts of a local store are written "
            "by each process itself, below this home"
        )
    Place.at(address)
    folder = home() / "artifacts"
    if (home() / ARTIFACTS).is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(
            f"--artifacts {address}: those of this home lie at {_artifacts()} already; move them, "
            f"then write the address into {home() / ARTIFACTS}"
        )
    return address


def _ensure_password() -> None:
    if not password_path().exists():
        write_secret(password_path(), secrets.token_urlsafe(32))


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
    store: str, host: str, port: int, allowed_hosts: Sequence[str], tls: Tls | None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", mlflow_app.__name__, "--host", host, "--port", str(port)]
    command += ["--password-file", str(password_path())]
    if tls is not None:
        command += ["--tls-certificate", str(tls.certificate.absolute())]
        command += ["--tls-key", str(tls.key.absolute())]
    database = sqlite_path(store)
    root = (database.parent / "artifacts").as_uri() if database else "mlflow-artifacts:/"
    environment = {
        **os.environ,
        mlflow_app.STORE: store,
        mlflow_app.DESTINATION: _artifacts(),
        mlflow_app.ROOT: root,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if host != HOST or allowed_hosts:
        names = ["localhost", HOST, host, *allowed_hosts]
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(
            [*(f"{name}:{port}" for name in dict.fromkeys(names)), *allowed_hosts]
        )
    environment.pop("MLFLOW_TRACKING_URI", None)
    with log_path().open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            cwd=home(),
        )


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if answers(address):
            return
        time.sleep(0.2)
    ended = process.poll() is not None
    stop()
    lines = log_path().read_text(errors="replace").strip().splitlines()
    why = "ended at once" if ended else f"did not answer within {START_SECONDS:.0f} s"
    last = lines[-1] if lines else "nothing in its log"
    raise RuntimeError(f"the MLflow server {why}: {last} (all of it in {log_path()})")


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

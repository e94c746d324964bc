"""No open doors: every route of the running servers, tried without credentials."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import mlflow_server
from cluster.session import Session
from tests.doors import METHODS, RAY_OPEN, ray_paths, status_of
from tests.ports import free_port

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
WRONG = {"Authorization": "Basic bWllbjp3cm9uZw=="}


@pytest.fixture(scope="module")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def mlflow(server_home: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(server_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        address = mlflow_server.start(port=free_port()).address
    yield address
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(server_home))
        mlflow_server.stop()


@pytest.fixture
def password(mlflow: str, server_home: Path) -> str:
    return (server_home / "mlflow-password").read_text()


def mlflow_paths() -> list[str]:
    """Every path of MLflow's two applications, with something in the place of each variable."""
    from mlflow.server import app as flask
    from mlflow.server.fastapi_app import app as fastapi

    paths = {str(rule) for rule in flask.url_map.iter_rules()}
    paths |= {getattr(route, "path", "") for route in fastapi.routes}
    paths |= {
        "/graphql",
        "/ajax-api/3.0/jobs/",
        "/v1/traces",
        "/gateway/x",
        "/docs",
        "/openapi.json",
    }
    plain = {re.sub(r"<[^>]*>|\{[^}]*\}", "x", path) or "/" for path in paths}
    return sorted(plain - {"/health"})


def test_mlflow_answers_nobody_without_the_password(mlflow: str) -> None:
    paths = mlflow_paths()
    assert len(paths) > 100, "the walk has lost MLflow's routes"
    told = {
        (method, path, status)
        for path in paths
        for method in METHODS
        if (status := status_of(mlflow, method, path)) != 401
    }
    assert not told
    for path in ("/", "/api/2.0/mlflow/experiments/search", "//health/../version", "/health/"):
        assert status_of(mlflow, "GET", path, WRONG) == 401
    assert status_of(mlflow, "POST", "/health") == 401
    assert status_of(mlflow, "GET", "/health") == 200


def test_mlflow_wants_to_be_called_by_its_name(mlflow: str, password: str) -> None:
    word = base64.b64encode(f"mien:{password}".encode()).decode()
    shown = {"Authorization": f"Basic {word}"}
    path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert status_of(mlflow, "GET", path, shown) == 200
    assert status_of(mlflow, "GET", path, {**shown, "Host": "evil.example"}) == 403


PORTS = """
import json, os, psutil
from cluster.session import connect
with connect():
    own = {child.pid for child in psutil.Process().children(recursive=True)} | {os.getpid()}
    found = [item for item in psutil.net_connections("tcp") if item.status == psutil.CONN_LISTEN]
    print(json.dumps({item.laddr.port: item.laddr.ip for item in found if item.pid in own}))
"""


def test_a_local_ray_listens_on_loopback_alone(tmp_path: Path) -> None:
    """In a process that starts nothing else."""
    environment = {**os.environ, "MIEN_HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", PORTS], env=environment, capture_output=True, text=True, check=True
    )
    ports = json.loads(said.stdout.splitlines()[-1])
    assert len(ports) > 5, "the walk has lost Ray's processes"
    assert {port: ip for port, ip in ports.items() if ip not in LOOPBACK} == {}


def test_ray_answers_nobody_without_the_token(ray_session: Session) -> None:
    import ray

    dashboard = f"http://{ray._private.worker.global_worker.node.webui_url}"
    logs = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    paths = ray_paths()
    assert len(paths) > 40, "the walk has lost Ray's routes"
    told = {
        (method, path, status)
        for path in paths - RAY_OPEN
        for method in METHODS
        if (status := status_of(dashboard, method, path)) not in (401, 403)
    }
    assert not told
    token = os.environ["RAY_AUTH_TOKEN"]
    assert status_of(dashboard, "GET", "/api/version", {"Authorization": f"Bearer {token}"}) == 200
    for process in psutil.process_iter(["cmdline"]):
        assert token not in " ".join(process.info["cmdline"] or ())
    for path in logs.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path

"""Whose server and whose password a home that several machines share has."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cluster import mlflow_server
from cluster.home import home, write_secret
from cluster.lock import ONCE
from cluster.mlflow_app import read_password


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a server that another machine started; process 1 lives here, too."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    state = tmp_path / "mlflow-server.json"
    told = {"address": "http://head:5000", "store": "sqlite:///x.db", "log": "", "machine": "head"}
    state.write_text(json.dumps({**told, "password_file": "", "process": 1, "began": 0.0}))
    return state


def test_another_machines_server_is_left_alone(elsewhere: Path) -> None:
    assert mlflow_server.status().running
    for command in (mlflow_server.start, mlflow_server.stop):
        with pytest.raises(ValueError, match=r"runs on head: start and stop it there; if .* gone"):
            command()
    assert elsewhere.is_file() and not (home() / "mlflow-password").exists()


def test_a_certificate_that_is_not_there_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    tls = mlflow_server.Tls(certificate=Path("gone.pem"), key=Path("gone.key"))
    with pytest.raises(ValueError, match=r"no such file: gone\.pem"):
        mlflow_server.start(tls=tls)


@pytest.mark.parametrize("links", [True, False])
def test_a_secret_is_there_wholly_and_once(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*given: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if not links:
        monkeypatch.setattr(os, "link", refuses)
    path = tmp_path / "secret"
    write_secret(path, "first")
    write_secret(path, "second")
    assert path.read_text() == "first" and path.stat().st_mode & 0o777 == 0o600
    assert set(os.listdir(tmp_path)) - {ONCE} == {"secret"}


def test_an_empty_password_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "password"
    write_secret(path, "")
    with pytest.raises(ValueError, match="is to hold a password and is empty"):
        read_password(path)

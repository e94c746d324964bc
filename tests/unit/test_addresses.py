"""Addresses and passwords of the tracking server, and what a start that failed leaves behind."""

from __future__ import annotations

import os

import pytest

from cluster import mlflow_server, mlflow_store, postgres
from cluster.home import home, tracking_file, tracking_uri


@pytest.mark.parametrize("place", ["u:secret@h/db", "u@h/db?password=secret", "h?sslpassword=x"])
def test_an_address_with_a_password_is_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://{place}")
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_URI holds a password"):
        tracking_uri()


def test_the_password_of_this_home_is_taken_back_for_another_server() -> None:
    ours = "http://127.0.0.1:5000"
    home().mkdir(parents=True)
    tracking_file().write_text(ours)
    mlflow_store.password_path().touch(mode=0o600)
    mlflow_store.password_path().write_text("word")
    mlflow_store._show_password(ours)
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "word"
    mlflow_store._show_password("http://elsewhere:5000")
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert "MLFLOW_TRACKING_USERNAME" not in os.environ


def test_a_password_that_was_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "given")
    mlflow_store._show_password("http://elsewhere:5000")
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "given"


def test_a_postgresql_that_was_never_made_whole_is_none() -> None:
    (home() / "postgres" / "unfinished").mkdir(parents=True)
    assert mlflow_server.status().store == f"sqlite:///{home() / 'mlflow.db'}"
    assert not mlflow_server.stop().running


def test_the_address_quotes_the_folder() -> None:
    folder = home() / "a & b"
    folder.mkdir(parents=True)
    (folder / "port").write_text("5432")
    assert postgres.address(folder).endswith("/a%20%26%20b/pgpass")


def test_ipv6_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"--host ::: IPv6 is not supported; 0\.0\.0\.0 listens"):
        mlflow_server.start(host="::", allowed_hosts=["head"])

"""MLflow over a PostgreSQL of its own: both start, ask for their passwords, and end."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import mlflow_server
from cluster.home import tracking_uri
from cluster.mlflow_store import mlflow_client, password_path
from tests import postgres_home
from tests.ports import free_port
from tests.s3 import s3_bucket
from trainer.tracking import tracker as tracking
from trainer.tracking.tracker import Tracker

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def open_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with postgres_home.open_home(monkeypatch) as folder:
        try:
            yield folder
        finally:
            mlflow_server.stop()


def _dies(*_: object) -> None:
    raise RuntimeError("it died")


def test_artifacts_lie_in_a_storage_service(
    open_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scorecard.json").write_text("{}")
    with s3_bucket(monkeypatch, tmp_path / "s3.log") as bucket:
        with pytest.raises(ValueError, match=r"--artifacts s3://\S+ needs --postgres"):
            mlflow_server.start(port=free_port(), artifacts=f"{bucket}/mlflow")
        given = {"own_postgres": True, "artifacts": f"{bucket}/mlflow"}
        other = {**given, "artifacts": f"{bucket}/other"}
        with monkeypatch.context() as patch:
            patch.setattr(mlflow_server, "_start_over", _dies)
            with pytest.raises(RuntimeError, match="it died"):
                mlflow_server.start(port=free_port(), **other)
        state = mlflow_server.start(port=free_port(), **given)
        run_id = tracking.create_run(state.address, "served", "a run", tags={}, params={})
        tracker = Tracker(state.address, run_id, tmp_path / "journal", system_metrics=False)
        tracker.artifact(tmp_path / "scorecard.json")
        assert tracker.close("FINISHED")
        mlflow_server.stop()
        with pytest.raises(ValueError, match=f"lie at {bucket}/mlflow already"):
            mlflow_server.start(port=free_port(), artifacts=f"{bucket}/other")
        state = mlflow_server.start(port=free_port())
        there = mlflow_client(state.address).download_artifacts(run_id, "scorecard.json")
        assert Path(there).read_text() == "{}"
        assert not (open_home / "artifacts").exists()


def command_lines() -> str:
    lines = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    return "\n".join(" ".join(line) for line in lines)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_both_start_track_and_end(open_home: Path, tmp_path: Path) -> None:
    state = mlflow_server.start(port=free_port(), own_postgres=True)
    assert state.store.startswith("postgresql+psycopg://mien@127.0.0.1:")
    assert tracking_uri() == state.address
    (tmp_path / "scorecard.json").write_text("{}")
    run_id = tracking.create_run(state.address, "served", "a run", tags={}, params={"a": 1})
    tracker = Tracker(state.address, run_id, tmp_path / "journal", system_metrics=False)
    tracker.metrics({"train/identity": 0.5}, 32)
    tracker.artifact(tmp_path / "scorecard.json")
    assert tracker.close("FINISHED")
    run = mlflow_client(state.store).get_run(run_id)
    assert run.data.metrics == {"train/identity": 0.5}
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert len(list((open_home / "artifacts").rglob("scorecard.json"))) == 1

    secrets = [password_path(), open_home / "postgres" / "pgpass"]
    words = [path.read_text().strip().rpartition(":")[2] for path in secrets]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in secrets)
    told = command_lines() + Path(state.log).read_text() + str(state.as_json())
    told += (open_home / "mlflow-server.json").read_text() + str(run.to_dictionary())
    assert not any(word in told for word in words)

    database = psutil.Process(
        int((open_home / "postgres/data/postmaster.pid").read_text().split()[0])
    )
    family = [database, psutil.Process(state.process), *database.children()]
    assert mlflow_server.stop() == state
    deadline = time.monotonic() + 10
    while any(lives(process) for process in family):
        assert time.monotonic() < deadline, [process for process in family if lives(process)]
        time.sleep(0.1)

    again = mlflow_server.start(port=free_port())
    assert again.store == state.store, "a home that has a PostgreSQL keeps it"
    assert mlflow_client(again.address).get_run(run_id).info.status == "FINISHED"

"""A real tracking server: started, killed under a run, stopped; what it shows of direct runs."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import pytest

from cluster import mlflow_server
from cluster.mlflow_store import ensure_store, password_path
from tests.ports import free_port
from trainer.tracking import tracker as tracking
from trainer.tracking.tracker import Tracker

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("home")
    patch.setenv("MIEN_HOME", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        patch.delenv(name, raising=False)
    yield folder
    patch.undo()


@pytest.fixture(autouse=True)
def _at_home(own_home, home, monkeypatch):
    """All tests here share a home, so that they share a server."""
    monkeypatch.setenv("MIEN_HOME", str(home))


@pytest.fixture(scope="module")
def server(home):
    state = mlflow_server.start(port=free_port())
    yield state
    mlflow_server.stop()


def fetch(address: str) -> bytes:
    shown = base64.b64encode(f"mien:{password_path().read_text()}".encode()).decode()
    request = urllib.request.Request(address, headers={"Authorization": f"Basic {shown}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def steps(uri: str, run_id: str) -> list[int]:
    history = ensure_store(uri).get_metric_history(run_id, "train/identity")
    return [point.step for point in history]


def test_a_picture_of_a_direct_run_is_shown_by_the_server(server, tmp_path):
    run_id = tracking.create_run(server.store, "direct", "a run", tags={}, params={})
    tracker = Tracker(server.store, run_id, tmp_path / "journal.jsonl")
    tracker.image("samples", np.full((16, 16, 3), 77, np.uint8), 64)
    tracker.commit(64)
    assert tracker.close("FINISHED")
    query = f"{server.address}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=images"
    files = [item["path"] for item in json.loads(fetch(query))["files"]]
    (picture,) = [path for path in files if path.endswith(".png")]
    url = f"{server.address}/get-artifact?path={quote(picture)}&run_uuid={run_id}"
    assert fetch(url).startswith(b"\x89PNG")


def test_what_was_made_through_the_server_is_readable_without_it(server, tmp_path):
    run_id = tracking.create_run(server.address, "served", "a run", tags={}, params={})
    (tmp_path / "scorecard.json").write_text("{}")
    tracker = Tracker(server.address, run_id, tmp_path / "journal.jsonl", system_metrics=False)
    tracker.metrics({"train/identity": 0.5}, 32)
    tracker.commit(32)
    tracker.artifact(tmp_path / "scorecard.json")
    assert tracker.close("FINISHED")
    client = ensure_store(server.store)
    assert [item.path for item in client.list_artifacts(run_id)] == ["scorecard.json"]
    assert steps(server.store, run_id) == [32]


def test_a_second_server_and_a_taken_port_are_one_clear_line(server, home, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="already runs at"):
        mlflow_server.start(port=free_port())
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(ValueError, match=f"port {port} .*in use"):
        mlflow_server.start(port=port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://head:5000")
    with pytest.raises(ValueError, match="a server elsewhere"):
        mlflow_server.start(port=free_port())


@pytest.mark.slow
def test_steps_neither_repeat_nor_go_missing_while_the_server_is_away(home, tmp_path):
    """The server goes away in the middle of a run and comes back; it is killed, not asked."""
    mlflow_server.stop()
    port = free_port()
    state = mlflow_server.start(port=port)
    run_id = tracking.create_run(state.address, "outage", "a run", tags={}, params={})
    tracker = Tracker(state.address, run_id, tmp_path / "journal.jsonl", system_metrics=False)
    for step in range(1, 31):
        if step == 11:
            os.killpg(state.process, signal.SIGKILL)
        if step == 21:
            mlflow_server.start(port=port)
        began = time.monotonic()
        tracker.metrics({"train/identity": 1.0 / step}, step)
        tracker.commit(step)
        assert time.monotonic() - began < 1.0
        time.sleep(0.05)
    assert tracker.close("FINISHED", timeout_seconds=60)
    assert steps(state.address, run_id) == list(range(1, 31))


TRAINS = """
import sys, time
from pathlib import Path
from trainer.tracking.tracker import Tracker

uri, run_id, journal, first, last = sys.argv[1:]
tracker = Tracker(uri, run_id, Path(journal), system_metrics=False)
tracker.rollback(int(first) - 1)
for step in range(int(first), int(last) + 1):
    tracker.metrics({"train/identity": 1.0 / step, "train/cycle": 2.0}, step)
    if step % 10 == 0:
        tracker.commit(step)
        print(step, flush=True)
    time.sleep(0.005)
tracker.close("FINISHED", timeout_seconds=60)
"""


def test_kill_minus_nine_neither_repeats_nor_loses_a_step(home, tmp_path):
    """A process is killed twice in mid-run; each successor starts from an earlier checkpoint."""
    store = f"sqlite:///{home / 'mlflow.db'}"
    run_id = tracking.create_run(store, "kills", "a run", tags={}, params={})
    first = 1
    for patience in (1.5, 4.0, None):
        arguments = [store, run_id, tmp_path / "journal.jsonl", first, 1000]
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINS, *map(str, arguments)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )
        committed = first - 1
        began = None
        for line in process.stdout:
            began = began or time.monotonic()
            committed = int(line)
            if patience is not None and time.monotonic() - began > patience:
                break
        if patience is None:
            assert process.wait(90) == 0
            break
        process.kill()
        process.wait()
        process.stdout.close()
        first = max(committed - 20, 0) + 1
    assert steps(store, run_id) == list(range(1, 1001))


def test_stop_leaves_no_process(home):
    if not mlflow_server.status().running:
        mlflow_server.start(port=free_port())
    state = mlflow_server.status()
    family = psutil.Process(state.process).children(recursive=True)
    assert mlflow_server.stop() == state
    assert not mlflow_server.status().running
    assert not any(process.is_running() for process in family)
    assert not mlflow_server.stop().running

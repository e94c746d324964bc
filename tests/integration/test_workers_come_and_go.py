"""Hosts leave and join while a run of 2 to 4 workers trains: it ends as planned, nothing twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.cluster_utils import Cluster

from cluster import session
from cluster.home import tracking_uri
from cluster.session import SETTINGS, connect
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from tests.ports import free_port
from trainer import catalog, feed, group, job
from trainer.config import RunConfig
from trainer.launch import RunResult, train
from trainer.ledger import of_plan
from trainer.overrides import with_overrides

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("hosts")]

STEPS, BATCH = 900, 24


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A Ray of one node with two CPUs, which others may join."""
    for name, value in {**SETTINGS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    session._use_tokens("token")
    head = {"num_cpus": 2, "dashboard_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    ingest("drawn", None, path, image_size=56, options={"subjects": 12, "faces_per_subject": 16})
    return path


def settings(workers: int, least: int | None = None) -> RunConfig:
    values = {
        "engine.workers": workers,
        "engine.least_workers": least,
        "data.global_batch_images": BATCH,
        "system.images": STEPS * BATCH,
        "checkpoint.every_steps": 20,
        "logging.every_images": BATCH,
        "logging.samples_every_images": 0,
    }
    return with_overrides(catalog.recipe("identity.tiny"), values)


def planned(lake: Path) -> int:
    run, opened = settings(2), Lake.open(lake)
    spec = feed.spec_of(run)
    data = feed.prepare(run, spec, opened, "1/4")
    stages = spec.build(run.system, data.info).stages()
    return of_plan(feed.plan_of(run, data, opened, stages, None))


def wait_for(what: str, seconds: float, **wanted: Any) -> dict[str, Any]:
    """The status of the only run when it trains beyond `wanted` steps with so many workers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for one in job.records():
            with suppress(ValueError):
                status = job.read_json(Path(one["directory"]) / "status.json")
                running = status["state"] == "running" and status.get("step", 0) >= wanted["step"]
                if running and status.get("workers") == wanted["workers"]:
                    return status
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s")


def test_hosts_that_come_and_go_cost_no_step(
    lake: Path, hosts: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(group, "SETTLED_SECONDS", 2.0)
    with connect(), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(train, settings(4, 2), lake, fold="1/4", experiment="hosts")
        began = wait_for("two workers begin", 90, workers=2, step=5)
        joined = hosts.add_node(num_cpus=1)
        grown = wait_for("a third joins", 90, workers=3, step=began["step"] + 100)
        hosts.remove_node(joined, allow_graceful=False)
        wait_for("two go on", 120, workers=2, step=grown["step"])
        result: RunResult = answer.result()
    assert (result.status, result.steps) == ("finished", STEPS)
    assert result.ledger == planned(lake)
    client = MlflowClient(tracking_uri())
    history = client.get_metric_history(result.run_id, "workers")
    assert [point.value for point in sorted(history, key=lambda one: one.step)] == [2, 3, 2]
    terms = client.get_metric_history(result.run_id, "train/subject")
    assert sorted(point.step for point in terms) == [BATCH * (n + 1) for n in range(STEPS)]

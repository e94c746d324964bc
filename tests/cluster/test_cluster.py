"""Three hosts with Ray on each, over ssh: ingest, training on all, search, comparison, faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("hosts")]

SHORT = (
    *("--set", "system.images=960", "--set", "data.global_batch_images=24"),
    *("--set", "checkpoint.every_steps=5", "--set", "logging.samples_every_images=0"),
)


@pytest.fixture(scope="module")
def lake(cluster: Cluster) -> Path:
    """Drawn faces, placed by Ray tasks on the hosts."""
    path = cluster.home / "lake"
    options = "--option subjects=12 --option faces_per_subject=16 --size 56 --workers 3"
    report = cluster.on(cluster.hosts.head, f"ingest drawn --lake {path} {options}")
    assert report["faces"] == 192
    return path


@pytest.fixture(scope="module")
def mlflow(cluster: Cluster) -> Iterator[str]:
    """MLflow on the head, over PostgreSQL, where every host reaches it."""
    head = cluster.hosts.head
    cluster.on(head, f"server start --postgres --host {head.address}", timeout=200)
    yield f"http://{head.address}:5000"
    cluster.on(head, "server stop")


def test_status_names_every_host(cluster: Cluster) -> None:
    hosts = cluster.here("cluster", "status", str(cluster.file))["hosts"]
    assert [one["role"] for one in hosts] == ["head", "worker", "worker"]
    assert all(one["alive"] and one["cpus"] == 2 for one in hosts)


def test_the_doctor_finds_nothing_on_a_right_cluster(cluster: Cluster, mlflow: str) -> None:
    checks = cluster.on(cluster.hosts.head, "doctor")["checks"]
    asked = [one for one in checks if one["name"].startswith("10.77.")]
    assert len(asked) == 3 * 7
    assert [one for one in asked if one["state"] != "ok"] == []


def test_a_home_that_is_not_shared_is_found(cluster: Cluster) -> None:
    head, *_, last = cluster.hosts.hosts
    with last.covered(cluster.home):
        checks = cluster.on(head, "doctor", code=1)["checks"]
    failed = {one["name"]: one["found"] for one in checks if one["state"] == "fail"}
    assert f"sees no file of {head.address}" in failed[f"{last.address}: storage"]


def test_training_search_and_comparison(cluster: Cluster, lake: Path, mlflow: str) -> None:
    head = cluster.hosts.head
    train = f"train identity.tiny --lake {lake} --fold 1/4 --experiment hosts"
    result = cluster.on(head, train, "--workers 3", *SHORT, timeout=500)
    assert result["status"] == "finished" and result["steps"] == 40
    search = f"tune identity.tiny --lake {lake} --trials 2 --experiment search --name s"
    study = cluster.on(head, search, "--search learning_rate=1e-4:1e-2:log", *SHORT, timeout=500)
    assert len(study["trials"]) == 2
    table = cluster.on(head, "compare hosts")
    assert sum(len(block["rows"]) for block in table["blocks"]) == 1


def test_a_host_that_loses_its_power_costs_no_step(
    cluster: Cluster, lake: Path, mlflow: str
) -> None:
    """SIGKILL for everything on one host: the run goes on, on the hosts that are left."""
    head, _, last = cluster.hosts.hosts
    runs = set((cluster.home / "runs").glob("*"))

    def cut() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            new = set((cluster.home / "runs").glob("*")) - runs
            if any(list(run.glob("checkpoints/[0-9]*")) for run in new):
                last.kill()
                return
            time.sleep(0.1)

    killer = threading.Thread(target=cut)
    killer.start()
    train = f"train identity.tiny --lake {lake} --fold 1/4 --experiment killed --workers 2"
    result = cluster.on(head, train, *SHORT, "--set system.images=4800", timeout=600)
    killer.join()
    assert last.process is None, "the run ended before the host was killed"
    assert result["status"] == "finished" and result["steps"] == 200

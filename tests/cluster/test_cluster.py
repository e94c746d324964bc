"""Three hosts with Ray on each, over ssh: ingest, training on all, search, comparison, faults.

What the faults cost is added to the table that $MIEN_RESULTS names, if it names one, as in
benchmarks/chaos/table.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import table
from benchmarks.chaos.runner import Outcome, measure
from benchmarks.chaos.trial import Trial
from tests.cluster.conftest import REPOSITORY, Cluster
from tests.cluster.hosts import Host

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("hosts")]

STEPS, STRIKES_AFTER = 120, 40
SETTINGS = (
    *("--set", f"system.images={24 * STEPS}", "--set", "data.global_batch_images=24"),
    *("--set", "checkpoint.every_steps=20", "--set", "logging.every_images=24"),
    *("--set", "logging.samples_every_images=0"),
)
Fault = Callable[[Trial], None]


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


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A run on the hosts: what it says of itself, and what a fault in it cost, if there was one.

    Where this machine itself stood still meanwhile, the times say nothing, and there is no outcome.
    """

    result: dict[str, Any]
    outcome: Outcome | None = None

    @property
    def folder(self) -> Path:
        """The run's directory."""
        return Path(self.result["directory"])


def train(cluster: Cluster, lake: Path, fault: Fault | None = None) -> Trained:
    """120 steps on three workers, each on a host of its own; `fault` strikes after the 40th."""
    runs, began = len(list(cluster.home.glob("runs/*/run.json"))), time.time()
    trial = Trial(home=cluster.home, begin=(), watched=runs)
    command = f"train identity.tiny --lake {lake} --fold 1/4 --experiment hosts --workers 3"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(cluster.on, cluster.hosts.head, command, *SETTINGS, timeout=900)
        while fault and not (
            trial.told and trial.told[-1].step >= STRIKES_AFTER and trial.checkpoints()
        ):
            assert not answer.done(), f"it ended before the fault: {answer.result()}"
            trial.look()
        if fault is None:
            return Trained(answer.result())
        before, at = trial.told[-1], time.time()
        fault(trial)
        while not answer.done():
            trial.look()
    busy = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    outcome = Outcome(fault=fault.__name__, seed=0, step=before.step, busy=busy)
    measure(outcome, trial, before, at)
    outcome.wall_seconds = time.time() - began
    return Trained(answer.result(), None if trial.stood_still_seconds else outcome)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, lake: Path, mlflow: str) -> Trained:
    """A run that nothing happened to."""
    return train(cluster, lake)


def broken(cluster: Cluster, run: Trained, whole: Trained) -> list[str]:
    """The invariants that do not hold, asked where PostgreSQL answers; told in the table."""
    asked = f"{sys.executable} -m benchmarks.chaos.invariants {run.folder} {whole.folder}"
    values = " ".join(f"{name}={value}" for name, value in cluster.environment.items())
    said = cluster.hosts.head.run(f"cd {REPOSITORY} && {values} {asked}", timeout=120).stdout
    found = json.loads(said.strip().splitlines()[-1])
    if (results := os.environ.get("MIEN_RESULTS")) and run.outcome:
        name = run.outcome.fault.replace("_", " ")
        seed = sum(fault == name for fault, _ in table.known(Path(results)))
        table.add(Path(results), replace(run.outcome, fault=name, seed=seed, broken=found))
    return found


def test_training_search_and_comparison(
    cluster: Cluster, lake: Path, mlflow: str, whole: Trained
) -> None:
    head = cluster.hosts.head
    assert whole.result["status"] == "finished" and whole.result["steps"] == STEPS
    search = f"tune baseline.tiny --lake {lake} --trials 2 --experiment search --name s"
    wide = "--set system.images=960 --search system.weights.classification=0.1:10:log"
    study = cluster.on(head, search, *SETTINGS, wide, timeout=500)
    assert len(study["trials"]) == 2
    table = cluster.on(head, "compare hosts")
    assert sum(len(block["rows"]) for block in table["blocks"]) == 1


def test_a_link_that_is_down_for_20_seconds_costs_no_step(
    cluster: Cluster, lake: Path, mlflow: str, whole: Trained
) -> None:
    """Whether it is ridden out or the host is declared dead, the run ends as if nothing was."""
    last = cluster.hosts.hosts[-1]

    def link_down(trial: Trial) -> None:
        assert trains(last)
        last.set_link(False)
        trial.watch(20)
        last.set_link(True)

    assert broken(cluster, train(cluster, lake, link_down), whole) == []


def test_a_host_that_loses_its_power_costs_no_step(
    cluster: Cluster, lake: Path, mlflow: str, whole: Trained
) -> None:
    """SIGKILL for everything on one host: the run goes on, on the hosts that are left."""
    last = cluster.hosts.hosts[-1]

    def host_killed(trial: Trial) -> None:
        assert trains(last)
        last.kill()

    assert broken(cluster, train(cluster, lake, host_killed), whole) == []


def trains(host: Host) -> bool:
    """Whether one of Ray Train's workers runs there."""
    return "RayTrainWorker" in host.run("ps -eo args").stdout

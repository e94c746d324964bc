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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import table
from benchmarks.chaos.runner import Outcome, measure
from benchmarks.chaos.trial import Trial
from tests.cluster.conftest import REPOSITORY, Cluster
from tests.cluster.hosts import Host
from tests.doors import METHODS, RAY_ALIVE, ray_paths, speaks_http, status_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("hosts")]

STEPS, STRIKES_AFTER = 120, 40
SETTINGS = (
    *("--set", f"system.images={24 * STEPS}", "--set", "data.global_batch_images=24"),
    *("--set", "checkpoint.every_steps=20", "--set", "logging.every_images=24"),
    *("--set", "logging.samples_every_images=0"),
)
Said = dict[str, Any]
Fault = Callable[[Trial, Future[Said]], Said | None]
"""Done to a run, of whose command the future has the answer; its own is of one that went on."""
OPEN = RAY_ALIVE | {"/health"}
"""What everybody may ask: whether a Ray, or MLflow, lives."""


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


def test_every_host_is_capped(cluster: Cluster) -> None:
    for host in cluster.hosts.hosts:
        if host.uncapped:
            pytest.skip(f"this machine lets nobody make control groups: {host.uncapped}")
        assert host.process is not None
        for group in host.cgroups.values():
            assert str(host.process.pid) in (group / "cgroup.procs").read_text().split()
        found = {path: host.run(f"cat {path}").stdout.strip() for path in host.caps}
        assert found == host.caps and len(found) >= 3


def test_no_host_tells_a_stranger_anything(cluster: Cluster, mlflow: str) -> None:
    """Of all that listens for others, what speaks HTTP wants the token or the password."""
    places = [
        place
        for host in cluster.hosts.hosts
        for port in host.listening()
        if speaks_http(place := f"http://{host.address}:{port}")
    ]
    assert len(places) > 3 and mlflow in places, "the walk has lost Ray's agents"
    told = {
        (place, method, path, status)
        for place in places
        for path in {"/", "/metrics", *ray_paths()} - OPEN
        for method in METHODS
        if (status := status_of(place, method, path)) not in (401, 403)
    }
    assert not told


def test_the_doctor_finds_nothing_on_a_right_cluster(cluster: Cluster, mlflow: str) -> None:
    checks = cluster.on(cluster.hosts.head, f"doctor --cluster {cluster.file}")["checks"]
    asked = [one for one in checks if one["name"].startswith("10.77.")]
    assert len(asked) == 3 * 8
    assert [one for one in asked if one["state"] != "ok"] == []


def test_a_command_can_be_a_job_of_ray_s(cluster: Cluster) -> None:
    """As cluster/examples/README.md has it, but waited for."""
    values = " ".join(f"{name}={value}" for name, value in cluster.environment.items())
    command = f"env {values} {sys.executable} -m mien --address auto cluster wait --nodes 3"
    submit = f"{sys.prefix}/bin/ray job submit --address http://127.0.0.1:8265 -- {command}"
    said = cluster.hosts.head.run(f"RAY_AUTH_MODE=token {submit}", timeout=200).stdout
    assert "3 nodes are there" in said


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
        assert all(trains(host) for host in cluster.hosts.hosts)
        before, at = trial.told[-1], time.time()
        went_on = fault(trial, answer)
        look_until_done(trial, answer)
    busy = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    outcome = Outcome(fault=fault.__name__, seed=0, step=before.step, busy=busy)
    measure(outcome, trial, before, at)
    outcome.wall_seconds = time.time() - began
    result = went_on or answer.result()
    return Trained(result, None if trial.stood_still_seconds else outcome)


def look_until_done(trial: Trial, answer: Future[Said]) -> None:
    """Look on until the command has ended."""
    while not answer.done():
        trial.look()


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
    assert not any(cluster.home.glob("studies/*.db")), "it lies in PostgreSQL"
    again = cluster.on(head, search, *SETTINGS, wide, "--resume", timeout=100)
    assert again["trials"] == study["trials"]


def test_two_runs_are_ranked(cluster: Cluster, lake: Path, mlflow: str) -> None:
    head, command = cluster.hosts.head, f"train baseline.tiny --lake {lake} --fold 1/4"
    for images in (960, 1920):
        last = ("--experiment ranked", f"--set system.images={images}")
        cluster.on(head, command, "--workers 2", *SETTINGS, *last, timeout=500)
    (block,) = cluster.on(head, "compare ranked")["blocks"]
    best, other = block["rows"]
    assert (best["rank"], best["verdict"]) == (1, "best")
    assert other["verdict"] in ("tie", "behind") and 0 < other["p"] <= 1


def test_a_link_that_is_down_for_20_seconds_costs_no_step(
    cluster: Cluster, lake: Path, mlflow: str, whole: Trained
) -> None:
    """Whether it is ridden out or the host is declared dead, the run ends as if nothing was."""
    last = cluster.hosts.hosts[-1]

    def link_down(trial: Trial, driver: Future[Said]) -> None:
        last.set_link(False)
        trial.watch(20)
        last.set_link(True)

    assert broken(cluster, train(cluster, lake, link_down), whole) == []


def test_a_head_that_dies_ends_its_driver_and_the_run_is_resumed(
    cluster: Cluster, lake: Path, mlflow: str, whole: Trained
) -> None:
    """By itself the driver ends; a new Ray comes up where workers of the old may still be."""
    head = cluster.hosts.head

    def head_of_three_killed(trial: Trial, driver: Future[Said]) -> Said:
        processes = head.processes("gcs_server", "raylet")
        assert len(processes) == 2
        head.run(f"kill -9 {' '.join(map(str, processes))}")
        trial.looked = None  # two commands over ssh are no time that the machine stood still
        look_until_done(trial, driver)
        assert isinstance(driver.exception(), AssertionError), "it ended, and said that it failed"
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(resume, trial)
            look_until_done(trial, again)
        return again.result()

    def resume(trial: Trial) -> Said:
        assert trial.folder is not None
        cluster.here("cluster", "up", str(cluster.file), "--wait", "240", timeout=900)
        return cluster.on(head, f"train --resume {trial.folder.name}", timeout=900)

    assert broken(cluster, train(cluster, lake, head_of_three_killed), whole) == []


def test_a_host_that_loses_its_power_costs_no_step(
    cluster: Cluster, lake: Path, mlflow: str, whole: Trained
) -> None:
    """Silence, then SIGKILL for everything on one host: the run goes on, on those that are left."""
    head, *_, last = cluster.hosts.hosts

    def host_killed(trial: Trial, driver: Future[Said]) -> None:
        last.set_link(False)
        last.kill()

    assert broken(cluster, train(cluster, lake, host_killed), whole) == []
    checks = cluster.on(head, f"doctor --cluster {cluster.file}", code=1)["checks"]
    assert [one["name"] for one in checks if one["state"] == "fail"] == [f"{last.address}: node"]


def test_down_ends_ray_on_every_host_also_on_one_that_came_back(cluster: Cluster) -> None:
    last = cluster.hosts.hosts[-1]
    last.set_link(True)
    if last.process is None:
        last.start()
    again = cluster.here("cluster", "up", str(cluster.file), "--wait", "240", timeout=900)
    assert [one["alive"] for one in again["hosts"]] == [True] * 3
    assert cluster.here("cluster", "down", str(cluster.file)) == {"unreached": []}
    left = {host.name: host.processes("gcs_server", "raylet") for host in cluster.hosts.hosts}
    assert not any(left.values()), left


def trains(host: Host) -> bool:
    """Whether one of Ray Train's workers runs there."""
    return "RayTrainWorker" in host.run("ps -eo args").stdout

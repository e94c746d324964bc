"""Checks of a running cluster: every node is asked, and compared with the one that drives."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from cluster.checks import Check
from cluster.config import ClusterConfig
from cluster.home import home, tracking_uri
from cluster.launcher import address_of
from cluster.limits import memory_bytes
from cluster.looks import INTERFACES, judge
from cluster.mlflow_state import AUTHORITY, health

PACKAGES = ("ray", "torch", "deepspeed", "mlflow", "optuna", "pyarrow", "numpy")
ANSWER_SECONDS = 120.0
MAX_CLOCK_SECONDS = 1.0
CONNECT_SECONDS = 3.0
DRIVER = Path("/dev/nvidiactl")
_IP = (socket.AF_INET, socket.AF_INET6)
_MOVED = {"AUTOSCALER_DRAIN_PREEMPTED", "AUTOSCALER_DRAIN_IDLE", "EXPECTED_TERMINATION"}
"""Why a node went that was sent away, or ended by its owner, in the words of Ray's protocol."""


class Probe:
    """What runs on each node; as a plain object it tells of this process' machine."""

    def __init__(self) -> None:
        self._listening: socket.socket | None = None

    def look(self) -> dict[str, Any]:
        """Versions, GPUs, memory, the network interfaces and the settings that choose one."""
        gpus, error = _gpus()
        return {
            "python": ".".join(map(str, sys.version_info[:3])),
            "packages": {name: _version(name) for name in PACKAGES},
            "gpus": gpus,
            "gpu_error": error,
            "driver": DRIVER.exists(),
            "memory_bytes": memory_bytes(),
            "interfaces": {
                name: [one.address for one in addresses if one.family in _IP]
                for name, addresses in psutil.net_if_addrs().items()
            },
            "chosen": {name: os.environ.get(name, "") for name in INTERFACES},
        }

    def clock(self) -> float:
        """This machine's time."""
        return time.time()

    def mark(self, folder: str, name: str) -> str:
        """Leave a file in the shared folder; what went wrong, or nothing."""
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_text(name)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def marks(self, folder: str) -> list[str]:
        """The files that this machine sees there."""
        with suppress(OSError):
            return sorted(path.name for path in Path(folder).iterdir())
        return []

    def listen(self) -> int:
        """Open a port, as a training's rendezvous does; its number."""
        self._listening = socket.create_server(("", 0))
        return self._listening.getsockname()[1]

    def reach(self, places: Sequence[tuple[str, int]]) -> list[str]:
        """The addresses that cannot be reached from here."""
        lost = []
        for address, port in places:
            try:
                socket.create_connection((address, port), CONNECT_SECONDS).close()
            except OSError as error:
                lost.append(f"{address}:{port} ({error.strerror or error})")
        return lost

    def asks_mlflow(self, uri: str) -> str:
        """What keeps this machine from the tracking server; nothing where it answers."""
        try:
            health(uri, CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            return str(error)
        return ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _gpus() -> tuple[list[dict[str, Any]], str]:
    """Those that torch can use, and what it says of the first that it cannot."""
    import torch

    found = []
    try:
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            found.append({"name": name, "free_bytes": free, "total_bytes": total})
    except RuntimeError as error:
        return found, str(error).splitlines()[0]
    return found, ""


def examine_nodes(config: ClusterConfig | None = None) -> Iterator[Check]:
    """All checks of the cluster that this process is connected to, node by node.

    With `config` every machine of that file must be among its nodes, too.
    """
    import ray

    nodes = ray.nodes()
    alive = {node["NodeManagerAddress"]: node for node in nodes if node["Alive"]}
    yield Check(name="nodes", state="ok", found=f"{len(alive)}: {', '.join(alive)}")
    yield from _lost(nodes, config)
    probes = {address: _probe(ray, node["NodeID"]) for address, node in alive.items()}
    looks = yield from _answers(ray, probes, "look")
    here = Probe().look()
    for address, look in looks.items():
        yield from judge(address, look, here, alive[address]["Resources"].get("GPU", 0.0))
    yield from _clocks(ray, probes)
    yield from _reachable(ray, probes)
    yield from _mlflow(ray, probes)
    yield from _storage(ray, probes)


def _lost(nodes: Sequence[Mapping[str, Any]], config: ClusterConfig | None) -> Iterator[Check]:
    """Machines that died and did not come back, and those of the file that are not there."""
    alive = {node["NodeManagerAddress"] for node in nodes if node["Alive"]}
    dead = {
        node["NodeManagerAddress"]: node["DeathReasonMessage"] or "no reason is known"
        for node in nodes
        if not node["Alive"] and _reason(node["DeathReason"]) not in _MOVED
    }
    hosts = {} if config is None else {address_of(host) or host: host for host in config.hosts}
    head = None if config is None else config.head
    away = hosts.keys() - alive
    enough = config is not None and len(hosts) - len(away) > config.min_workers
    for address in sorted(dead.keys() - alive | away):
        host = hosts.get(address, address)
        spare = enough and address not in dead and host != head
        found = f"Ray has lost it: {dead[address]}" if address in dead else "it is not in this Ray"
        yield Check(
            name=f"{host}: node",
            state="warn" if spare else "fail",
            found=found,
            mend="`mien cluster up` once it answers to ssh; leave it if it is not to be there",
        )


def _reason(number: int) -> str:
    from ray.core.generated.common_pb2 import (
        NodeDeathInfo,  # pyright: ignore[reportAttributeAccessIssue]  # generated
    )

    return NodeDeathInfo.Reason.Name(number)


def _probe(ray: Any, node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(Probe).options(num_cpus=0, scheduling_strategy=there).remote()


def _ask(ray: Any, probes: Mapping[str, Any], question: str, *arguments: Any) -> dict[str, Any]:
    """The answer of each node that gives one in time."""
    asked = {address: getattr(one, question).remote(*arguments) for address, one in probes.items()}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answers = {}
    for address, answer in asked.items():
        with suppress(ray.exceptions.RayError):
            answers[address] = ray.get(answer, timeout=0.1)
    return answers


def _answers(
    ray: Any, probes: dict[str, Any], question: str, *arguments: Any
) -> Generator[Check, None, dict[str, Any]]:
    """Every node's answer; one that gives none in time is told of and leaves `probes`."""
    answers = _ask(ray, probes, question, *arguments)
    for address in sorted(probes.keys() - answers.keys()):
        del probes[address]
        yield Check(
            name=f"{address}: {question}",
            state="fail",
            found=f"no answer within {ANSWER_SECONDS:.0f} s",
            mend="look at its load, its mounts, and Ray's logs: /tmp/ray/session_latest/logs",
        )
    return answers


def _clocks(ray: Any, probes: dict[str, Any]) -> Iterator[Check]:
    for address in list(probes):
        before = time.time()
        alone = {address: probes[address]}
        there = yield from _answers(ray, alone, "clock")
        after = time.time()
        if not alone:
            del probes[address]
            continue
        off = max(before - there[address], there[address] - after, 0.0)
        bad = off > MAX_CLOCK_SECONDS
        yield Check(
            name=f"{address}: clock",
            state="warn" if bad else "ok",
            found=f"{off:.1f} s off at least" if bad else f"right within {after - before:.2f} s",
            mend="synchronise it: `timedatectl set-ntp true`" if bad else "",
        )


def _storage(ray: Any, probes: dict[str, Any]) -> Iterator[Check]:
    """Every node leaves a file below the home, and every node must see all of them."""
    folder = home() / f".doctor-{uuid.uuid4().hex[:8]}"
    refused: dict[str, str] = {}
    for address in list(probes):
        alone = {address: probes[address]}
        refused |= yield from _answers(ray, alone, "mark", str(folder), address)
        if not alone:
            del probes[address]
    seen = yield from _answers(ray, probes, "marks", str(folder))
    for address in probes:
        blind = sorted(set(probes) - set(seen.get(address, ())))
        text = f"cannot write {home()}: {refused[address]}" if refused[address] else ""
        text = text or (f"sees no file of {', '.join(blind)} in {home()}" if blind else "")
        yield Check(
            name=f"{address}: storage",
            state="fail" if text else "ok",
            found=text or f"{home()} is shared",
            mend="mount one directory at MIEN_HOME on all machines, writable" if text else "",
        )
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _reachable(ray: Any, probes: dict[str, Any]) -> Iterator[Check]:
    """Training opens ports as it likes: each node must reach an open port of every other."""
    ports = yield from _answers(ray, probes, "listen")
    reached = yield from _answers(ray, probes, "reach", list(ports.items()))
    for address, lost in reached.items():
        yield Check(
            name=f"{address}: ports",
            state="fail" if lost else "ok",
            found=f"does not reach {', '.join(lost)}" if lost else "reaches every other",
            mend="let all TCP ports through between the machines of the cluster" if lost else "",
        )


def _mlflow(ray: Any, probes: dict[str, Any]) -> Iterator[Check]:
    uri = tracking_uri()
    if not uri.startswith("http"):
        if len(probes) > 1:
            yield Check(
                name="MLflow",
                state="warn",
                found=f"{uri} is written to by the processes of several machines",
                mend="mien server start --postgres --host ADDRESS on the head",
            )
        return
    answers = yield from _answers(ray, probes, "asks_mlflow", uri)
    mend = "mien server start --host ADDRESS that this machine reaches"
    if uri.startswith("https:"):
        mend += f"; where a private authority signed its certificate: {AUTHORITY} at `ray start`"
    for address, error in answers.items():
        yield Check(
            name=f"{address}: MLflow",
            state="warn" if error else "ok",
            found=f"{uri}: {error}" if error else f"{uri} answers",
            mend=mend if error else "",
        )

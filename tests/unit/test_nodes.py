"""Checks of a cluster: what is wrong with a node is told, and a silent one holds nothing up."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import looks, nodes
from cluster.checks import Check
from cluster.config import read

SHIPPED = read(Path(__file__).parents[2] / "ray_cluster.yaml")
SILENT = object()
URI = "http://10.0.0.1:5000"
GPU = {"name": "H100", "free_bytes": 80e9, "total_bytes": 80e9}
LOOK = {
    "python": "3.11.7",
    "packages": {"ray": "2.60.0", "torch": "2.13.0"},
    "gpus": [],
    "gpu_error": "",
    "driver": False,
    "memory_bytes": 16e9,
    "interfaces": {
        "lo": ["127.0.0.1"],
        "eth0": ["10.0.0.2"],
        "ib0": ["192.168.0.2", "fe80::1%ib0"],
        "ib1": ["fe80::2%ib1"],
    },
    "chosen": {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"},
}
RIGHT = {"look": LOOK, "mark": "", "marks": ["a", "b"], "listen": 4000, "reach": []}
RIGHT |= {"asks_mlflow": ""}


class Node:
    """Answers as a right node does, or as `answers` has it; never to the questions in `silent`."""

    def __init__(self, *silent: str, **answers: Any) -> None:
        self._silent, self._answers = silent, {**RIGHT, **answers}

    def __getattr__(self, question: str) -> Any:
        answers = {"clock": time.time(), **self._answers}
        given = SILENT if question in self._silent else answers[question]
        return SimpleNamespace(remote=lambda *arguments: given)


class NoAnswerError(Exception):
    pass


def get(answer: Any, *, timeout: float) -> Any:
    """As `ray.get`, which without a timeout would wait for ever."""
    if answer is SILENT:
        raise NoAnswerError
    return answer


RAY = SimpleNamespace(
    get=get, wait=lambda *rest, **options: None, exceptions=SimpleNamespace(RayError=NoAnswerError)
)


@pytest.mark.parametrize(
    ("question", "check"), [("clock", nodes._clocks), ("mark", nodes._storage)]
)
def test_a_node_that_hangs_is_told_of_and_asked_no_more(question: str, check: Any) -> None:
    probes = {"a": Node(), "b": Node(question)}
    found = {one.name: one for one in check(RAY, probes)}
    assert found[f"b: {question}"].state == "fail"
    assert "no answer within" in found[f"b: {question}"].found
    assert any(name.startswith("a: ") and one.state == "ok" for name, one in found.items())
    assert list(probes) == ["a"]


def node(address: str, *, alive: bool = True, reason: int = 0, gpus: float = 0) -> dict[str, Any]:
    """As `ray.nodes` has it."""
    return {
        "NodeManagerAddress": address,
        "NodeID": address,
        "Alive": alive,
        "DeathReason": reason,
        "DeathReasonMessage": "its health check failed",
        "Resources": {"CPU": 2.0, **({"GPU": gpus} if gpus else {})},
    }


def examined(
    monkeypatch: pytest.MonkeyPatch, b: Node, listed: list[dict[str, Any]], **known: Any
) -> dict[str, Check]:
    """All checks of the living nodes of `listed`: `b` stands for b, all others are right."""
    ray = SimpleNamespace(**vars(RAY), nodes=lambda: listed)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(nodes, "_probe", lambda ray, name: b if name == "b" else Node())
    monkeypatch.setattr(nodes, "tracking_uri", lambda: URI)
    monkeypatch.setattr(nodes.Probe, "look", lambda self: LOOK)
    return {one.name: one for one in nodes.examine_nodes(**known)}


def told(found: Mapping[str, Check]) -> dict[str, str]:
    """What is not as it should be, by name."""
    return {name: one.state for name, one in found.items() if one.state != "ok"}


@pytest.mark.parametrize("gpus", [0, 1])
def test_nothing_is_told_of_right_nodes(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    b = Node(look={**LOOK, "gpus": [GPU] * gpus})
    found = examined(monkeypatch, b, [node("a"), node("b", gpus=gpus)])
    assert told(found) == {}
    assert len(found) == 1 + 2 * 8


def interfaces(**chosen: str) -> dict[str, Any]:
    return {"chosen": {**LOOK["chosen"], **chosen}}


UNUSABLE = {"driver": True, "gpu_error": "the driver is too old"}


@pytest.mark.parametrize(
    ("question", "answer", "gpus", "state", "says"),
    [
        ("look", {"python": "3.12.1"}, 0, "versions: fail", "Python 3.12.1, here 3.11.7"),
        ("look", {"packages": {**LOOK["packages"], "ray": "2.9"}}, 0, "versions: fail", "ray 2.9"),
        ("look", UNUSABLE, 1, "GPU: fail", "Ray hands out 1, torch 2.13.0 can use 0 (the driver"),
        ("look", UNUSABLE, 0, "GPU: warn", "one is there, but torch 2.13.0 cannot use it"),
        ("look", {"gpus": [GPU] * 2}, 1, "GPU: warn", "Ray hands out 1 of 2"),
        ("look", {"gpus": [{**GPU, "free_bytes": 6e10}]}, 1, "memory: warn", "H100 60/80 GB free"),
        ("look", interfaces(GLOO_SOCKET_IFNAME=""), 0, "interface: warn", "GLOO_SOCKET_IFNAME="),
        ("look", interfaces(GLOO_SOCKET_IFNAME="lo"), 0, "interface: warn", "=lo"),
        ("look", interfaces(GLOO_SOCKET_IFNAME="eth0,lo"), 0, "interface: warn", "=eth0,lo"),
        ("look", interfaces(GLOO_SOCKET_IFNAME="eth"), 0, "interface: warn", "=eth,"),
        (
            "look",
            interfaces(NCCL_SOCKET_IFNAME="=ib"),
            0,
            "interface: warn",
            "NCCL_SOCKET_IFNAME==",
        ),
        ("look", interfaces(NCCL_SOCKET_IFNAME="ib1"), 0, "interface: warn", "=ib1"),
        ("look", interfaces(NCCL_SOCKET_IFNAME="^eth,ib"), 0, "interface: warn", "=^eth,ib"),
        ("clock", 60.0, 0, "clock: warn", "s off at least"),
        ("reach", ["10.0.0.1:4000 (timed out)"], 0, "ports: fail", "does not reach 10.0.0.1:4000"),
        ("asks_mlflow", "refused", 0, "MLflow: warn", f"{URI}: refused"),
        ("mark", "Read-only file system", 0, "storage: fail", "Read-only file system"),
        ("marks", ["b"], 0, "storage: fail", "sees no file of a"),
    ],
)
def test_what_is_wrong_with_a_node_is_told_with_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, question: str, answer: Any, gpus: int, state: str, says: str
) -> None:
    given = {**LOOK, **answer} if question == "look" else answer
    found = examined(monkeypatch, Node(**{question: given}), [node("a"), node("b", gpus=gpus)])
    name, _, wanted = state.partition(": ")
    assert told(found) == {f"b: {name}": wanted}
    assert says in found[f"b: {name}"].found and found[f"b: {name}"].mend


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("GLOO", "ib0"),
        ("GLOO", "eth0,ib0"),
        ("NCCL", "ib"),
        ("NCCL", "=ib0"),
        ("NCCL", "mlx,ib"),
        ("NCCL", "^docker,lo"),
        ("NCCL", "^=eth0"),
    ],
)
def test_an_interface_to_another_network_may_be_chosen(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    look = {**LOOK, **interfaces(**{f"{setting}_SOCKET_IFNAME": value})}
    assert told(examined(monkeypatch, Node(look=look), [node("a"), node("b")])) == {}


def test_one_machine_may_talk_over_its_loopback() -> None:
    look = {**LOOK, **interfaces(GLOO_SOCKET_IFNAME="lo", NCCL_SOCKET_IFNAME="lo")}
    (check,) = [one for one in looks.judge("127.0.0.1", look, LOOK, 0) if "interface" in one.name]
    assert check.state == "ok"


DIED, ENDED = 2, 1


@pytest.mark.parametrize(
    ("listed", "wanted"),
    [
        ([node("a"), node("b", alive=False, reason=DIED)], {"b: node": "fail"}),
        ([node("a"), node("b", alive=False, reason=ENDED)], {}),
        ([node("a"), node("b", alive=False, reason=DIED), node("b")], {}),
    ],
)
def test_a_node_that_died_is_told_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, listed: list[dict[str, Any]], wanted: dict[str, str]
) -> None:
    found = examined(monkeypatch, Node(), listed)
    assert told(found) == wanted
    if wanted:
        assert found["b: node"].found == "Ray has lost it: its health check failed"


def test_a_machine_of_the_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are to run at least; more than those may be away."""
    head, one, two = SHIPPED.hosts
    listed = [node(head), node(one), node(two, alive=False, reason=ENDED)]
    for least, state in ((2, "fail"), (1, "warn")):
        config = replace(SHIPPED, min_workers=least)
        found = list(nodes._lost(listed, config))
        assert [(check.name, check.state) for check in found] == [(f"{two}: node", state)]
    alone = list(nodes._lost([node(one), node(two)], replace(SHIPPED, min_workers=0)))
    assert [(check.name, check.state) for check in alone] == [(f"{head}: node", "fail")]

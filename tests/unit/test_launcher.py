"""How the machines of a cluster stand, from what Ray's own listing says of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import launcher
from cluster.config import read

SHIPPED = read(Path(__file__).parents[2] / "ray_cluster.yaml")


def test_hosts_are_told_by_what_ray_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the very form in which `ray list nodes` shows resources."""

    from ray.util.state.common import Humanify

    def node(address: str, state: str) -> dict[str, object]:
        resources = {"CPU": 2.0, "memory": 12.5 * 2**30, "object_store_memory": 150_000_000}
        shown = Humanify.node_resources(resources)
        return {"node_ip": address, "state": state, "resources_total": shown}

    nodes = [node("10.0.0.1", "ALIVE"), node("10.0.0.2", "ALIVE"), node("10.0.0.3", "DEAD")]
    said = f"a line of the login shell\n{json.dumps(nodes)}\n"
    monkeypatch.setattr(launcher, "on_host", lambda *asked: said)
    head, worker, dead = launcher.status(SHIPPED)
    assert (head.role, head.alive, head.cpus) == ("head", True, 2.0)
    assert head.memory_bytes == worker.memory_bytes == int(12.5 * 2**30)
    assert not dead.alive and dead.memory_bytes == 0


def test_a_host_name_is_known_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(hosts=("localhost", "nosuch.invalid"), head="localhost")
    node = {"node_ip": "127.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 2.0}}
    states = launcher._states(config, [node])  # type: ignore[arg-type]
    assert [(one.alive, one.cpus) for one in states] == [(True, 2.0), (False, 0.0)]


def test_a_head_that_does_not_answer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*asked: object) -> str:
        raise RuntimeError("10.0.0.1: Permission denied (publickey).")

    monkeypatch.setattr(launcher, "on_host", refuse)
    states = launcher.status(SHIPPED)
    assert [one.alive for one in states] == [False] * 3
    assert [one.reason for one in states] == ["Permission denied (publickey).", "", ""]


def test_up_says_what_keeps_machines_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    away = launcher.HostState(address="10.0.0.1", role="head", alive=False, reason="no route")
    monkeypatch.setattr(launcher, "TOKEN", tmp_path / "token")
    monkeypatch.setattr(launcher, "status", lambda config: (away,))
    monkeypatch.setattr(launcher, "on_host", lambda *asked: "what the monitor said")
    starts = []
    monkeypatch.setattr(launcher, "_launch", starts.append)
    with pytest.raises(RuntimeError, match=r"Ray is not on 10\.0\.0\.1: no route; on the head"):
        launcher.up(SHIPPED, wait_seconds=0)
    assert len(starts) == 2, "what broke off is started once more"

"""How the machines of a cluster stand, from what Ray's own listing says of them."""

from __future__ import annotations

import json
from dataclasses import replace
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


def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, code: int, says: str) -> Path:
    """An ssh that answers so, and the file in which it writes down what it was given."""
    given, ssh = tmp_path / "given", tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {given}\necho "{says}" >&2\necho fine\nexit {code}\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    return given


def test_a_machine_is_known_by_its_key_and_reached_through_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = answering(tmp_path, monkeypatch, code=0, says="")
    through = replace(SHIPPED, ssh_proxy="nc -x proxy %h %p")
    assert launcher.on_host(through, "10.0.0.2", "true") == "fine\n"
    options = given.read_text().splitlines()
    assert "StrictHostKeyChecking=accept-new" in options
    assert f"UserKnownHostsFile={tmp_path}/.ssh/mien_known_hosts" in options
    assert "ProxyCommand=nc -x proxy %h %p" in options
    launcher.on_host(SHIPPED, "10.0.0.2", "true")
    assert given.read_text().count("ProxyCommand") == 1


def test_nothing_is_copied_to_a_head_with_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, monkeypatch, code=255, says="Host key verification failed.")
    monkeypatch.setattr(launcher, "_launch", lambda config: pytest.fail("it was started"))
    with pytest.raises(RuntimeError, match=r"^10\.0\.0\.1: Host key .* `ssh-keygen -f .* -R 10"):
        launcher.up(SHIPPED, wait_seconds=0)


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

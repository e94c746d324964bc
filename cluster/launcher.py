"""Ray on the machines of `ray_cluster.yaml`: start it everywhere, see who is there, end it."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.config import TOKEN, ClusterConfig
from cluster.home import write_secret

COMMAND_SECONDS = 120.0
STARTS = 2
MONITOR = "/tmp/ray/session_latest/logs/monitor.out"
KNOWN_HOSTS = Path("~/.ssh/mien_known_hosts")
"""The keys by which machines were known when they first answered; another one is refused."""
_SSH = ("BatchMode=yes", "ConnectTimeout=10", "LogLevel=ERROR", "StrictHostKeyChecking=accept-new")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostState:
    """One machine of the file: `alive` when Ray counts it in, else `reason` where that is known."""

    address: str
    role: str
    alive: bool
    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: int = 0
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def up(config: ClusterConfig, *, wait_seconds: float) -> tuple[HostState, ...]:
    """Start Ray on every machine and wait until `min_workers` have joined the head.

    Makes the token that all of them ask for, if there is none. Ray's launcher copies it to the head
    without a look at whose key that shows, so the head must first answer as the one known from
    before. A start that a machine did not answer is made once more, from the head on: Ray 2.60
    itself does not come back to a worker whose ssh broke off. RuntimeError says what did not come
    up; what Ray's launcher and the head's monitor say goes to this process' standard output.
    """
    make_token()
    error: RuntimeError | None = None
    for _ in range(STARTS):
        try:
            on_host(config, config.head, "true")
            _launch(config)
            return _joined(config, wait_seconds)
        except RuntimeError as caught:
            error = caught
            with suppress(RuntimeError):
                print(on_host(config, config.head, f"tail -n 100 {MONITOR}"), flush=True)
    assert error is not None
    raise error


def _launch(config: ClusterConfig) -> None:
    ray_up = [str(Path(sys.executable).with_name("ray")), "up", str(config.path), "--yes"]
    done = subprocess.run(
        [*ray_up, "--no-config-cache"],
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"`{shlex.join(ray_up)}` failed with exit code {done.returncode}")


def _joined(config: ClusterConfig, wait_seconds: float) -> tuple[HostState, ...]:
    deadline = time.monotonic() + wait_seconds
    while True:
        states = status(config)
        lacking = [one for one in states if not one.alive]
        if len(states) - len(lacking) > config.min_workers:
            return states
        if time.monotonic() > deadline:
            away = ", ".join(": ".join(filter(None, (one.address, one.reason))) for one in lacking)
            raise RuntimeError(
                f"after {wait_seconds:.0f} s Ray is not on {away}; on the head, "
                f"{MONITOR} tells how its workers were started"
            )
        time.sleep(2)


def status(config: ClusterConfig) -> tuple[HostState, ...]:
    """How each machine of the file stands, the head first.

    All are away if the head does not answer; the head's `reason` then says what came instead.
    """
    try:
        listed = on_host(config, config.head, f"{config.ray} list nodes --format json --limit 1000")
    except RuntimeError as error:
        return _states(config, (), reason=str(error).removeprefix(f"{config.head}: "))
    try:
        nodes = json.loads(listed.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return _states(config, (), reason="`ray list nodes` gave no list")
    return _states(config, nodes)


def _states(
    config: ClusterConfig, nodes: Sequence[dict[str, Any]], reason: str = ""
) -> tuple[HostState, ...]:
    alive = {node["node_ip"]: node for node in nodes if node["state"] == "ALIVE"}
    states = []
    for host in config.hosts:
        node = alive.get(host) or alive.get(address_of(host)) or {}
        has = node.get("resources_total", {})
        states.append(
            HostState(
                address=host,
                role="head" if host == config.head else "worker",
                alive=bool(node),
                cpus=has.get("CPU", 0.0),
                gpus=has.get("GPU", 0.0),
                memory_bytes=_bytes(has.get("memory", "0 B")),
                reason=reason if host == config.head else "",
            )
        )
    return tuple(states)


def address_of(host: str) -> str:
    """The address of a host name, by which Ray knows it; empty where nobody knows the name."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


def _bytes(shown: str) -> int:
    """What `ray list nodes` shows as `12.359 GiB`."""
    number, unit = shown.split()
    return int(float(number) * 1024 ** ("B", "KiB", "MiB", "GiB").index(unit))


def down(config: ClusterConfig) -> tuple[str, ...]:
    """End Ray on every machine, the head first, which would start the others again.

    Returns the machines that could not be reached. `ray down` itself reaches the head alone.
    """
    unreached = [] if _stops(config, config.head) else [config.head]
    with ThreadPoolExecutor(max_workers=16) as pool:
        ended = pool.map(lambda host: _stops(config, host), config.workers)
        unreached += [host for host, done in zip(config.workers, ended) if not done]
    for kind in ("state", "lock"):
        Path(f"/tmp/ray/cluster-{config.name}.{kind}").unlink(missing_ok=True)
    return tuple(unreached)


def _stops(config: ClusterConfig, host: str) -> bool:
    try:
        on_host(config, host, f"{config.ray} stop")
    except RuntimeError:
        return False
    return True


def on_host(config: ClusterConfig, host: str, command: str) -> str:
    """What a shell command prints on a machine.

    RuntimeError with its last line if it fails, where the machine shows another key than before,
    and where it is silent for two minutes.
    """
    try:
        done = subprocess.run(
            _ssh(config, host, f"RAY_AUTH_MODE=token {command}"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{host}: no answer within {COMMAND_SECONDS:.0f} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = lines[-1] if lines else "no answer"
        if "Host key verification failed" in said:
            forget = shlex.join(["ssh-keygen", "-f", str(KNOWN_HOSTS.expanduser()), "-R", host])
            said += f" If that machine was set up anew: `{forget}`"
        raise RuntimeError(f"{host}: {said}")
    return done.stdout


def _ssh(config: ClusterConfig, host: str, command: str) -> list[str]:
    known = KNOWN_HOSTS.expanduser()
    known.parent.mkdir(mode=0o700, exist_ok=True)
    options = [*_SSH, f"UserKnownHostsFile={known}"]
    if config.ssh_proxy is not None:
        options.append(f"ProxyCommand={config.ssh_proxy}")
    key = [] if config.ssh_key is None else ["-i", str(config.ssh_key.expanduser())]
    flags = [part for option in options for part in ("-o", option)]
    return ["ssh", *flags, *key, f"{config.ssh_user}@{host}", command]


def make_token() -> Path:
    """The file with the token that every node and driver shows; made for its owner alone."""
    path = TOKEN.expanduser()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, secrets.token_hex(32))
    return path

"""A Ray cluster on three hosts of its own, started as a team starts it on its machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts import Host, Hosts, make_hosts, missing

REPOSITORY = Path(__file__).parents[2]
OBJECT_STORE_BYTES = 150_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """The hosts, the file that describes them, and the home that they share."""

    hosts: Hosts
    file: Path
    home: Path

    def here(self, *arguments: str, timeout: float = 300) -> dict[str, Any]:
        """`mien ARGUMENTS --json` on the machine of whoever starts the cluster."""
        done = subprocess.run(
            [sys.executable, "-m", "mien", *arguments, "--json"],
            env={**os.environ, **self.environment, "HOME": str(self.file.parent)},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return _answer(done, arguments)

    def on(
        self, host: Host, *arguments: str, timeout: float = 300, code: int = 0
    ) -> dict[str, Any]:
        """`mien --address auto ARGUMENTS --json` on one of the hosts; it must exit with `code`."""
        values = " ".join(f"{name}={value}" for name, value in self.environment.items())
        command = " ".join(("mien --address auto", *arguments, "--json"))
        full = f"cd {REPOSITORY} && {values} {sys.executable} -m {command}"
        return _answer(host.run(full, timeout=timeout, check=False), arguments, code)

    @property
    def environment(self) -> Mapping[str, str]:
        """What every mien on these hosts is told."""
        return {
            "MIEN_HOME": str(self.home),
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
        }


def _answer(
    done: subprocess.CompletedProcess[str], arguments: tuple[str, ...], code: int = 0
) -> dict[str, Any]:
    if done.returncode != code:
        logs = re.findall(r"/\S+\.log$", done.stderr, re.MULTILINE)
        said = "".join(f"\n{log}:\n{Path(log).read_text()[-4000:]}" for log in logs)
        raise AssertionError(f"mien {' '.join(arguments)}\n{done.stdout}\n{done.stderr}{said}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def cluster_file(hosts: Hosts, folder: Path) -> Path:
    """The repository's ray_cluster.yaml with these hosts filled in, and little memory taken."""
    text = (REPOSITORY / "ray_cluster.yaml").read_text()
    workers = ", ".join(host.address for host in hosts.hosts[1:])
    limits = f"--num-cpus=2 --object-store-memory={OBJECT_STORE_BYTES}"
    for pattern, value in {
        r"cluster_name: \S+": f"cluster_name: {hosts.name}",
        r"head_ip: \S+": f"head_ip: {hosts.head.address}",
        r"worker_ips: \[.*?\]": f"worker_ips: [{workers}]",
        r"ssh_user: \S+": "ssh_user: root",
        r"ssh_private_key: \S+": f"ssh_private_key: {hosts.key}",
        r"~/mien/\.venv/bin/ray start ": f"{sys.prefix}/bin/ray start {limits} ",
        r"~/mien/\.venv": sys.prefix,
    }.items():
        text, count = re.subn(pattern, value, text)
        assert count, f"ray_cluster.yaml has nothing like {pattern}"
    path = folder / "ray_cluster.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three hosts with Ray on each, by `mien cluster up`."""
    if reason := missing():
        pytest.skip(reason)
    # PostgreSQL's own account must be able to enter the home, and pytest's folders forbid it.
    with tempfile.TemporaryDirectory(prefix="mien-hosts-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with make_hosts(folder) as hosts:
            made = Cluster(hosts=hosts, file=cluster_file(hosts, folder), home=folder / "home")
            answer = made.here("cluster", "up", str(made.file), "--wait", "240", timeout=900)
            assert [one["alive"] for one in answer["hosts"]] == [True] * 3
            yield made

"""Checks before anything is spent: what is installed, what is missing, what would fail."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

from cluster.checks import Check
from cluster.config import ClusterConfig, check, read
from cluster.home import home, tracking_uri
from cluster.mlflow_state import AUTHORITY, health
from cluster.resources import usable_cpus
from cluster.session import store_bytes

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
MIN_FREE_BYTES = 5_000_000_000
SHARED_MEMORY_TO_SPARE = 1.5
"""Of Ray's object store: torch's processes and Arrow use shared memory too."""
PORTS = {5000: "MLflow server", 6379: "Ray head", 8265: "Ray dashboard"}


def examine(cluster: Path | None = None) -> tuple[Check, ...]:
    """All checks of this machine, and of the cluster file if one is given."""
    return tuple(_checks(cluster))


def examine_cluster(file: Path | None = None) -> Iterator[Check]:
    """All checks of the Ray at `RAY_ADDRESS`, against the machines of the cluster file if given."""
    from cluster.nodes import examine_nodes
    from cluster.session import connect

    try:
        with connect():
            yield from examine_nodes(_own_machines(file))
    except (ValueError, RuntimeError) as error:  # another version of Ray answers, say
        yield Check(
            name="cluster",
            state="fail",
            found=str(error),
            mend="`mien cluster status` tells which machines are up; if all are, `make setup` in "
            "the same clone on all of them",
        )


def _own_machines(file: Path | None) -> ClusterConfig | None:
    """What the file says of them; None for a cloud's, or one in which `examine` found a mistake."""
    if file is not None:
        with suppress(ValueError):
            return read(file)
    return None


def _checks(cluster: Path | None) -> Iterator[Check]:
    shared = int(SHARED_MEMORY_TO_SPARE * store_bytes(usable_cpus()))
    yield _python()
    yield from packages(LOCK)
    yield _compiler()
    yield _accelerator()
    yield _space("disk", home(), MIN_FREE_BYTES, "free some, or set MIEN_HOME to another disk")
    yield _space(
        "shared memory",
        Path("/dev/shm"),
        shared,
        f"give the container more, as with docker run --shm-size={ceil(shared / 1e9)}g",
    )
    yield _writable()
    yield from (_port(number, purpose) for number, purpose in PORTS.items())
    yield _tracking()
    if cluster is not None:
        yield _cluster_file(cluster)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Check(name="Python", state="ok", found=found)
    return Check(name="Python", state="fail", found=found, mend="make setup PYTHON=python3.11")


def packages(lock: Path) -> Iterator[Check]:
    """Each package of the lock against what is installed; one line when all is as it should be."""
    if not lock.is_file():
        yield Check(
            name="packages", state="warn", found=f"no {lock.name} beside mien", mend="use a clone"
        )
        return
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)$", lock.read_text(), re.MULTILINE))
    right = 0
    for name, version in wanted.items():
        found = _installed(name)
        if found is None:
            yield Check(name=name, state="fail", found="missing", mend="make setup")
        elif found.partition("+")[0] != version:
            text = f"{found}, the lock has {version}"
            yield Check(name=name, state="warn", found=text, mend="make setup")
        else:
            right += 1
    state = "ok" if right == len(wanted) else "warn"
    yield Check(name="packages", state=state, found=f"{right} of {len(wanted)} as in the lock")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiler() -> Check:
    """DeepSpeed compiles its CUDA kernels; on CPUs mien needs none of them."""
    missing = [tool for tool in ("ninja", "g++") if shutil.which(tool, path=_search_path()) is None]
    if not missing:
        return Check(name="ninja, g++", state="ok", found="present")
    return Check(
        name="ninja, g++",
        state="warn",
        found=f"without {', '.join(missing)}",
        mend="needed on GPUs only: install g++ and run make setup",
    )


def _search_path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _accelerator() -> Check:
    if _installed("torch") is None:
        return Check(name="torch", state="fail", found="missing", mend="make setup")
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        found = f"{torch.cuda.device_count()} x {', '.join(sorted(names))}"
        return Check(name="GPU", state="ok", found=found)
    if Path("/dev/nvidiactl").exists():
        return Check(
            name="GPU",
            state="warn",
            found=f"one is there, but torch {torch.__version__} cannot use it",
            mend="make setup TORCH_INDEX=(the index of a CUDA build)",
        )
    return Check(name="GPU", state="ok", found=f"none; {usable_cpus()} CPU cores")


def _space(name: str, path: Path, least: int, mend: str) -> Check:
    existing = next(one for one in (path, *path.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / 1e9:.1f} GB free at {path}"
    if free >= least:
        return Check(name=name, state="ok", found=found)
    return Check(name=name, state="warn", found=f"{found}; {least / 1e9:.1f} are wanted", mend=mend)


def _writable() -> Check:
    probe = home() / ".doctor"
    try:
        home().mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        found = f"{home()}: {error.strerror}"
        return Check(name="home", state="fail", found=found, mend="set MIEN_HOME")
    return Check(name="home", state="ok", found=str(home()))


def _port(number: int, purpose: str) -> Check:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", number)) == 0
    found = f"{number} is {'in use' if taken else 'free'}"
    if not taken:
        return Check(name=f"port, {purpose}", state="ok", found=found)
    return Check(
        name=f"port, {purpose}",
        state="warn",
        found=found,
        mend="fine if that is what runs there; else another port",
    )


def _tracking() -> Check:
    """Only asks; starts nothing. A server that is away never stops a run, but shows nothing."""
    uri = tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return Check(name="MLflow", state="ok", found=uri)
    try:
        return Check(name="MLflow", state="ok", found=f"{uri}: {health(uri, 5)}")
    except OSError as error:
        return Check(
            name="MLflow",
            state="warn",
            found=f"{uri}: {error}",
            mend="mien server start, or another MLFLOW_TRACKING_URI; where a private authority "
            f"signed its certificate: {AUTHORITY}",
        )


def _cluster_file(path: Path) -> Check:
    try:
        found = check(path)
    except ValueError as error:
        return Check(name="cluster file", state="fail", found=str(error), mend="correct that line")
    return Check(name="cluster file", state="ok", found=found)

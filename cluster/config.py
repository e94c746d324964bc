"""Reads and checks `ray_cluster.yaml` before Ray does; every error names file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.config_schema import hold_against_schema, line_of

KEYS = {
    "": (
        *("cluster_name", "provider", "auth", "docker", "available_node_types", "head_node_type"),
        *("min_workers", "max_workers", "upscaling_speed", "idle_timeout_minutes"),
        *("file_mounts", "file_mounts_sync_continuously", "cluster_synced_files", "metadata"),
        *("rsync_exclude", "rsync_filter"),
        *("initialization_commands", "setup_commands", "head_setup_commands"),
        *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
    ),
    "provider": ("type", "head_ip", "worker_ips"),
    "auth": (
        *("ssh_user", "ssh_private_key", "ssh_public_key"),
        *("ssh_proxy_command", "ssh_proxy_use_node_id"),
    ),
}
CLOUDS_ALONE = {
    *("docker", "available_node_types", "head_node_type"),
    *("auth.ssh_public_key", "auth.ssh_proxy_use_node_id"),
}
LOCAL = "local"
TOKEN = Path("~/.ray/auth_token")
"""Which `mien cluster up` makes where there is none."""
START_COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")
_MODE = re.compile(r"RAY_AUTH_MODE=[\"']?(\w*)")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """The part of `ray_cluster.yaml` that mien itself uses; Ray's launcher reads the whole."""

    path: Path
    name: str
    head: str
    workers: tuple[str, ...]
    ssh_user: str
    ssh_key: Path | None
    ssh_proxy: str | None
    """The command through which ssh reaches the machines, if it needs one."""
    ray: str
    """The `ray` command on the machines, as the start commands have it."""
    min_workers: int
    max_workers: int

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every machine, the head first."""
        return (self.head, *self.workers)


def read(path: Path) -> ClusterConfig:
    """The cluster that the file describes; ValueError for the first thing that is wrong in it."""
    reader = _Reader.of(path)
    config = reader.config()
    reader.satisfies_ray()
    return config


def check(path: Path) -> str:
    """What the file describes, in a few words, after the checks that can be made without a cloud.

    Beyond `read`, the local files that it names must be there. ValueError for the first thing that
    is wrong.
    """
    reader = _Reader.of(path)
    if reader.provider == LOCAL:
        config = reader.config()
        found = f"{config.name}, {len(config.hosts)} machines"
    else:
        found = f"{reader.name()}, provider {reader.provider}"
        for where in START_COMMANDS:
            reader.starts_ray(where)
    reader.satisfies_ray()
    reader.finds_files()
    return found


def _compose(path: Path, text: str) -> yaml.MappingNode:
    try:
        yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}:{line}: this is not YAML: {error.problem}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{path}:1: a cluster file is a mapping of keys to values")
    return root


class _Reader:
    """Looks up keys by dotted path and remembers in which line each stands."""

    def __init__(self, path: Path, root: yaml.MappingNode) -> None:
        self.path = path
        self.root = root
        self.nodes: dict[str, yaml.Node] = {"": root}
        self.lines: dict[str, int] = {"": 1}
        self._walk("", root)
        for prefix in ("", "auth"):
            self._refuse_unknown(prefix)
        self.provider = self._get("provider.type", str, "local is needed, or a cloud's name")
        if self.provider == LOCAL:
            self._refuse_unknown("provider")
            for where in self.lines.keys() & CLOUDS_ALONE:
                text = f"{where} is for clouds; provider {LOCAL} has no such key"
                raise self._error(text, self.lines[where])

    @classmethod
    def of(cls, path: Path) -> _Reader:
        """The file's; ValueError where there is none, or it is no mapping with known keys."""
        try:
            return cls(path, _compose(path, path.read_text()))
        except FileNotFoundError:
            raise ValueError(f"there is no cluster file {path}") from None

    def _refuse_unknown(self, prefix: str) -> None:
        for where, line in self.lines.items():
            parent, _, key = where.rpartition(".")
            if where and parent == prefix and key not in KEYS[prefix]:
                close = difflib.get_close_matches(key, KEYS[prefix], n=1)
                hint = f"; did you mean {close[0]}?" if close else "."
                valid = ", ".join(KEYS[prefix])
                raise self._error(f"unknown key {where}{hint} Valid: {valid}", line)

    def _walk(self, prefix: str, mapping: yaml.MappingNode) -> None:
        for key_node, value in mapping.value:
            key = str(key_node.value)
            where, line = f"{prefix}.{key}".lstrip("."), key_node.start_mark.line + 1
            if where in self.nodes:
                raise self._error(f"{where} stands here and in line {self.lines[where]}", line)
            self.nodes[where], self.lines[where] = value, line
            if isinstance(value, yaml.MappingNode) and where in KEYS:
                self._walk(where, value)

    def _error(self, text: str, line: int) -> ValueError:
        return ValueError(f"{self.path}:{line}: {text}")

    def _wrong(self, where: str, need: str) -> ValueError:
        found = self._value(where)
        return self._error(f"{where} is {found!r}; {need}", self.lines[where])

    def _value(self, where: str) -> Any:
        loader = yaml.SafeLoader("")
        return loader.construct_document(self.nodes[where])

    def _get(self, where: str, kind: type, need: str, default: Any = None) -> Any:
        if where not in self.nodes:
            if default is not None:
                return default
            parent = where.rpartition(".")[0]
            raise self._error(f"{where} is missing; {need}", self.lines.get(parent, 1))
        value = self._value(where)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._wrong(where, need)
        return value

    def config(self) -> ClusterConfig:
        """Everything checked; the first thing that is wrong is raised."""
        name = self.name()
        if self.provider != LOCAL:
            raise self._wrong("provider.type", "only local is started here; others by `ray up`")
        head = self._host("provider.head_ip")
        workers = self._workers(head)
        low = self._count("min_workers", len(workers), default=len(workers))
        high = self._count("max_workers", len(workers), default=len(workers))
        if low > high:
            raise self._wrong("min_workers", f"at most max_workers = {high} is needed")
        key = self._get("auth.ssh_private_key", str, "the file of a private key", default="")
        proxy = self._get("auth.ssh_proxy_command", str, "a command for ssh", default="")
        rays = [self.starts_ray(where) for where in START_COMMANDS]
        return ClusterConfig(
            path=self.path,
            name=name,
            head=head,
            workers=workers,
            ssh_user=self._get("auth.ssh_user", str, "the user that logs in on every machine"),
            ssh_key=Path(key) if key else None,
            ssh_proxy=proxy or None,
            ray=rays[0],
            min_workers=low,
            max_workers=high,
        )

    def name(self) -> str:
        """The cluster's name."""
        need = "a name of letters, digits, - and _ is needed"
        name = self._get("cluster_name", str, need)
        if not re.fullmatch(r"[\w-]+", name):
            raise self._wrong("cluster_name", need)
        return name

    def _host(self, where: str) -> str:
        need = "an address or host name is needed"
        value = self._get(where, str, need)
        if not _HOST.fullmatch(value):
            raise self._wrong(where, need)
        return value

    def _workers(self, head: str) -> tuple[str, ...]:
        where, need = "provider.worker_ips", "a list of addresses other than the head's is needed"
        hosts: Sequence[Any] = self._get(where, list, need)
        for host in hosts:
            if not isinstance(host, str) or not _HOST.fullmatch(host) or host == head:
                raise self._error(f"{where} has {host!r}; {need}", self.lines[where])
        if len(set(hosts)) < len(hosts):
            raise self._wrong(where, "each address once is needed")
        return tuple(hosts)

    def _count(self, where: str, most: int, default: int) -> int:
        need = f"a number from 0 to {most}, the length of provider.worker_ips, is needed"
        value = self._get(where, int, need, default)
        if not 0 <= value <= most:
            raise self._wrong(where, need)
        return value

    def starts_ray(self, where: str) -> str:
        """The `ray` command that starts it."""
        need = "a list of shell commands is needed"
        commands = self._get(where, list, need)
        if not all(isinstance(command, str) for command in commands):
            raise self._wrong(where, need)
        starts = [command for command in commands if "ray start" in command]
        modes = [set(_MODE.findall(command)) for command in starts]
        if not starts or any(mode != {"token"} for mode in modes):
            raise self._error(
                f"{where} must `ray start` with RAY_AUTH_MODE=token; without a token whoever "
                "reaches a port of Ray can run code on that machine",
                self.lines[where],
            )
        found = re.search(r"(\S*\bray) start\b", starts[-1])
        assert found is not None
        return found[1]

    def satisfies_ray(self) -> None:
        """Held against the schema of Ray's launcher, which takes `min_workers` of one's own."""
        values = self._value("")
        if self.provider == LOCAL:
            values.pop("min_workers", None)
        hold_against_schema(self.path, self.root, values)

    def finds_files(self) -> None:
        """The key, and what is to be copied to every machine, must be on this one."""
        key = "auth.ssh_private_key"
        if key in self.nodes:
            self._finds(key, self._value(key), ["auth", "ssh_private_key"])
        if "file_mounts" in self.nodes:
            for there, here in self._value("file_mounts").items():
                self._finds(f"file_mounts: {there}", here, ["file_mounts", there])

    def _finds(self, what: str, file: Any, place: Sequence[str]) -> None:
        line = line_of(self.root, place)
        if not isinstance(file, str):
            raise self._error(f"{what} is {file!r}; the path of a file here is needed", line)
        own = Path(file).expanduser()
        if own.exists() or (self.provider == LOCAL and own == TOKEN.expanduser()):
            return
        made = "; make it: `ray get-auth-token --generate`" if own == TOKEN.expanduser() else ""
        raise self._error(f"{what}: there is no {file} on this machine{made}", line)

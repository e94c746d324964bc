"""Hosts of a cluster on one machine: each has its own network, processes, host name and sshd.

A host is a network, PID, mount and UTS namespace whose first process is sshd: killing that one
kills everything on the host at once, as a power cut does, and `ray stop` sees only its own host.
They share the file system (that is their NFS), but neither /tmp/ray, /dev/shm nor root's home.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_BYTES = 4096 * 1_000_000
CPU_SHARE = 1.0
CPU_WEIGHT = 4
"""Beside other processes: as so many, since a control group counts as one."""
TOOLS = ("ip", "ss", "sshd", "ssh", "ssh-keygen", "rsync", "unshare", "nsenter")

_BOOT = """
set -e
hostname {name}
mount --bind {folder}/ray /tmp/ray
mount --bind {folder}/hosts /etc/hosts
mount --bind {folder}/passwd /etc/passwd
mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm
{limits}
exec {sshd} -D -e -f {folder}/sshd_config
"""
_SSHD = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {key}.pub
PidFile none
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""


def missing() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if os.geteuid() != 0:
        return "hosts of its own need root"
    lacking = [tool for tool in TOOLS if _tool(tool) is None]
    if lacking:
        return f"hosts of its own need {', '.join(lacking)} (cluster/install_system_packages.sh)"
    return None


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(eq=False)
class Host:
    """One host: `run` a command on it, `kill` it, take its `link` down."""

    name: str
    address: str
    folder: Path
    key: Path
    link: str
    process: subprocess.Popen[bytes] | None = None
    cgroups: dict[Path, Path] = field(default_factory=dict)
    """Its control groups, by where the host is to see each."""
    caps: dict[Path, str] = field(default_factory=dict)
    """What the files of these groups are to hold."""
    uncapped: str = ""
    """Why this machine let nobody cap it, if it did not."""

    def start(self) -> None:
        """Boot: returns when sshd answers."""
        limits = "\n".join(f"mount --bind {group} {at}" for at, group in self.cgroups.items())
        given = {"name": self.name, "folder": self.folder, "limits": limits}
        script = _BOOT.format(sshd=_tool("sshd"), **given)
        join = "".join(f"echo $$ > {group}/cgroup.procs; " for group in self.cgroups.values())
        joined = ["sh", "-c", f'{join}exec "$@"', "sh"]
        inside = ["unshare", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*joined, "nsenter", f"--net=/run/netns/{self.name}", *inside, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while self.run("true", check=False).returncode:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.folder / "sshd.log").read_text())
            time.sleep(0.1)

    def command(self, command: str) -> list[str]:
        """The ssh command line that runs a shell command on the host."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options += ["BatchMode=yes", "ConnectTimeout=5"]
        flags = [part for option in options for part in ("-o", option)]
        return ["ssh", "-i", str(self.key), *flags, f"root@{self.address}", command]

    def run(
        self, command: str, *, timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host over ssh; RuntimeError with its output if it fails."""
        done = subprocess.run(
            self.command(command),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {command}\n{done.stdout}\n{done.stderr}")
        return done

    def listening(self) -> list[int]:
        """The TCP ports on which something listens for others than this host."""
        rows = self.run("ss -ltnH").stdout.splitlines()
        local = (row.split()[3].rpartition(":") for row in rows)
        return sorted(
            {
                int(port)
                for at, _, port in local
                if not at.startswith(("127.", "[::1]", "[::ffff:127"))
            }
        )

    def processes(self, *names: str) -> list[int]:
        """The processes of these names."""
        told = self.run(f"ps -C {','.join(names)} -o pid=", check=False).stdout
        return [int(pid) for pid in told.split()]

    def kill(self) -> None:
        """SIGKILL for everything that runs on the host."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def covered(self, folder: Path) -> Iterator[None]:
        """During the block this host alone has an empty disk of its own in place of the folder."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        inside = ("nsenter", "--mount", "--pid", "--target", children.split()[0])
        _run(*inside, "mount", "-t", "tmpfs", "tmpfs", str(folder))
        try:
            yield
        finally:
            _run(*inside, "umount", "--lazy", str(folder))

    def set_link(self, up: bool) -> None:
        """Plug or pull the network cable."""
        _run("ip", "link", "set", self.link, "up" if up else "down")


@dataclass(eq=False)
class Hosts:
    """All hosts; the first is the head. The machine itself has `gateway` on their network."""

    name: str
    hosts: Sequence[Host]
    gateway: str
    key: Path

    @property
    def head(self) -> Host:
        """The host that runs drivers."""
        return self.hosts[0]


@contextmanager
def make_hosts(folder: Path, count: int = 3) -> Iterator[Hosts]:
    """Hosts for the length of the block, and nothing of them afterwards, whatever happened."""
    token = secrets.token_hex(2)
    bridge, subnet = f"mb{token}", f"10.77.{1 + int(token, 16) % 250}"
    Path("/run/sshd").mkdir(exist_ok=True)
    Path("/tmp/ray").mkdir(exist_ok=True, mode=0o1777)
    key = folder / "key"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    made: list[Host] = []
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{subnet}.254/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for number in range(1, count + 1):
            name, own = f"mien-{token}-{number}", folder / f"host{number}"
            address, link = f"{subnet}.{number}", f"mv{token}{number}"
            made.append(Host(name=name, address=address, folder=own, key=key, link=link))
            _prepare(made[-1], bridge)
        names = "127.0.0.1 localhost\n" + "".join(f"{h.address} {h.name}\n" for h in made)
        for host in made:
            (host.folder / "hosts").write_text(names)
            host.start()
        yield Hosts(name=f"mien-{token}", hosts=made, gateway=f"{subnet}.254", key=key)
    finally:
        for host in made:
            _remove(host)
        _run("ip", "link", "del", bridge, check=False)
        for left in Path("/tmp/ray").glob(f"cluster-mien-{token}.*"):
            left.unlink()


def _prepare(host: Host, bridge: str) -> None:
    """Folder, namespace, cable and caps of one host."""
    own, name, link = host.folder, host.name, host.link
    for part in ("ray", "home"):
        (own / part).mkdir(parents=True)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own / "host_key"))
    known = Path("/etc/passwd").read_text()
    (own / "passwd").write_text(re.sub(r"(?m)^(root:.*):[^:\n]*:", rf"\1:{own}/home:", known))
    config = _SSHD.format(address=host.address, folder=own, key=host.key)
    (own / "sshd_config").write_text(config)
    _run("ip", "netns", "add", name)
    _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    _run("ip", "link", "set", link, "master", bridge, "up")
    _run("ip", "-n", name, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run("ip", "-n", name, "link", "set", device, "up")
    try:
        _limit(host)
    except OSError as error:
        host.uncapped = str(error)


def _limit(host: Host) -> None:
    """Control groups that cap memory and CPU; OSError where this machine lets nobody make them.

    Where each controller has a tree of its own (version 1), they lie below this process' groups.
    """
    root, period = Path("/sys/fs/cgroup"), 100_000
    quota = int(CPU_SHARE * period)
    limits = {
        "memory": {"memory.limit_in_bytes": MEMORY_BYTES},
        "cpu": {
            "cpu.cfs_period_us": period,
            "cpu.cfs_quota_us": quota,
            "cpu.shares": 1024 * CPU_WEIGHT,
        },
    }
    if (root / "cgroup.controllers").exists():
        limits = {
            "": {
                "memory.max": MEMORY_BYTES,
                "cpu.max": f"{quota} {period}",
                "cpu.weight": 100 * CPU_WEIGHT,
            }
        }
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    own = {controller: path for _, controller, path in lines if controller}
    for controller, values in limits.items():
        at = root / controller
        group = at / own.get(controller, "/").lstrip("/") / host.name
        group.mkdir()
        host.cgroups[at] = group
        for file, value in values.items():
            (group / file).write_text(str(value))
            host.caps[at / file] = str(value)


def _remove(host: Host) -> None:
    host.kill()
    _run("ip", "netns", "del", host.name, check=False)
    _run("ip", "link", "del", host.link, check=False)
    for group in host.cgroups.values():
        deadline = time.monotonic() + 5
        while group.exists() and time.monotonic() < deadline:
            with suppress(OSError):
                group.rmdir()
            time.sleep(0.05)

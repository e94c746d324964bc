"""A PostgreSQL of one's own, for MLflow and studies: on loopback, its password in a file alone."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

USER = "mien"
MLFLOW, STUDIES = "mlflow", "studies"
"""Its databases; each has tables of its own for its migrations, under one name."""
START_SECONDS = 60
SERVICE_ACCOUNT = "postgres"


def start(folder: Path) -> str:
    """Start the PostgreSQL below `folder`, made if it is new; MLflow's address, without a password.

    The address names the file that holds the password, as libpq understands it. ValueError where
    PostgreSQL is not installed, or must run under an account that cannot enter the folder.
    """
    data = folder / "data"
    if not exists(folder):
        _create(folder)
    if not running(folder):
        _call("pg_ctl", "-D", data, "-l", folder / "log", "-w", "-t", START_SECONDS, "start")
    _ensure_databases(folder)
    (folder / "host").write_text(socket.gethostname())
    return address(folder)


def exists(folder: Path) -> bool:
    """Whether a PostgreSQL was made there, wholly."""
    return (folder / "data" / "PG_VERSION").exists()


def join(folder: Path, database: str) -> str:
    """The address of one of its databases, made if it is new, for a process beside it.

    ValueError where it does not run, or was started on another machine, whose loopback it is on.
    """
    host = folder / "host"
    if host.is_file() and (name := host.read_text()) != socket.gethostname():
        raise ValueError(f"the PostgreSQL of this home can be used on {name} alone: go there")
    if not running(folder):
        raise ValueError("the PostgreSQL of this home does not run: `mien server start`")
    _ensure_databases(folder)
    return address(folder, database)


def stop(folder: Path) -> bool:
    """End it in an orderly way; whether it ran."""
    if not running(folder):
        return False
    _call("pg_ctl", "-D", folder / "data", "-m", "fast", "-w", "-t", START_SECONDS, "stop")
    return True


def running(folder: Path) -> bool:
    """Whether its postmaster lives."""
    if not (folder / "data" / "postmaster.pid").exists():
        return False
    return _call("pg_ctl", "-D", folder / "data", "status", check=False) == 0


def address(folder: Path, database: str = MLFLOW) -> str:
    """One of its databases, as SQLAlchemy wants it."""
    port = int((folder / "port").read_text())
    passfile = quote(str(folder / "pgpass"))
    return f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{database}?passfile={passfile}"


def _create(folder: Path) -> None:
    """`initdb`, in a draft that gets its name when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "unfinished"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password, port = secrets.token_hex(32), _free_port()
    _private(folder / "password", password)
    _private(folder / "pgpass", f"127.0.0.1:{port}:*:{USER}:{password}\n")
    (folder / "port").write_text(str(port))
    (folder / "log").touch(mode=0o600)
    _give_away(folder, draft, folder / "password", folder / "log")
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", f"--username={USER}"]
    _call("initdb", "-D", draft, *options, f"--pwfile={folder / 'password'}")
    with (draft / "postgresql.conf").open("a") as file:
        file.write(f"listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n")
    (folder / "password").unlink()
    draft.rename(folder / "data")


def _private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _ensure_databases(folder: Path) -> None:
    import psycopg

    port = int((folder / "port").read_text())
    where = {"host": "127.0.0.1", "port": port, "user": USER, "dbname": "postgres"}
    with psycopg.connect(**where, passfile=str(folder / "pgpass"), autocommit=True) as connection:
        for name in (MLFLOW, STUDIES):
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if found.fetchone() is None:
                connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportCallIssue, reportArgumentType]


def _give_away(*paths: Path) -> None:
    """As root, which PostgreSQL refuses to run under: to the account that it runs under."""
    if os.geteuid() != 0:
        return
    account = _account()
    for path in paths:
        os.chown(path, account.pw_uid, account.pw_gid)
    command = ["test", "-w", str(paths[0])]
    if subprocess.run(
        command, user=account.pw_uid, group=account.pw_gid, extra_groups=[]
    ).returncode:
        raise ValueError(
            f"PostgreSQL does not run as root, and its account {account.pw_name} cannot enter "
            f"{paths[0]}; start it as another user, or set MIEN_HOME to a folder that all may enter"
        )


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SERVICE_ACCOUNT)
    except KeyError:
        raise ValueError(
            f"PostgreSQL does not run as root, and there is no account {SERVICE_ACCOUNT}"
        ) from None


def _call(program: str, *arguments: Any, check: bool = True) -> int:
    """Run one of PostgreSQL's programs; RuntimeError with its last line if it fails."""
    account = _account() if os.geteuid() == 0 else None
    done = subprocess.run(
        [_program(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
        text=True,
        cwd="/",
        **(
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        ),
    )
    if check and done.returncode:
        lines = (done.stdout or "").strip().splitlines()
        told = lines[-1] if lines else f"exit code {done.returncode}"
        raise RuntimeError(f"PostgreSQL's {program} failed: {told}")
    return done.returncode


def _program(name: str) -> str:
    """On the path, or where Debian keeps it, the newest version."""
    found = shutil.which(name)
    if found is not None:
        return found
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(installed, key=lambda path: float(path.parts[4]), default=None)
    if newest is None:
        raise ValueError(
            f"PostgreSQL is not installed ({name}); cluster/install_system_packages.sh"
        )
    return str(newest)

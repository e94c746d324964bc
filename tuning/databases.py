"""The databases that studies are kept in: SQLite files, or a PostgreSQL.

A file needs no service; its write-ahead log is not for a folder that several machines share.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, NullPool, create_engine, make_url, text
from sqlalchemy.event import listen
from sqlalchemy.exc import DatabaseError, OperationalError

T = TypeVar("T")
Where = Path | str
"""An SQLite file with one study, or the address of a PostgreSQL database with many."""

BUSY_SECONDS = 20.0
"""How long a file may be locked by another process, or a PostgreSQL be away, until that is said."""

GOES_ON = "; nothing is lost: --resume goes on"

_REACHED = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
"""libpq's limits (seconds; the last one milliseconds) for a host that is gone without a word."""

_TABLES, _SEARCHER = 0x6D69656E, 0x6D69656F
"""PostgreSQL's locks: of who makes the tables, and of a study's searcher."""


class StudyStoreError(ValueError):
    """A file or database that holds no study, is locked or gone, or cannot be written."""


@contextmanager
def store_errors_told(where: Where, beside: str = "") -> Iterator[None]:
    """What the database refuses within the block is a StudyStoreError of one line, with `beside`.

    Optuna wraps most of it in an error that says nothing of the cause.
    """
    try:
        yield
    except (DatabaseError, StorageInternalError) as error:
        refused = error if isinstance(error, DatabaseError) else error.__cause__
        reason = str(getattr(refused, "orig", None) or refused or error).strip()
        raise StudyStoreError(
            f"{shown(where)} cannot be used as a study: {reason.splitlines()[0]}{beside}"
        ) from None


def shown(where: Where) -> str:
    """The place as a person is told of it: no password, nor the file that holds one."""
    if isinstance(where, Path):
        return str(where)
    return make_url(where).set(query={}).render_as_string(hide_password=True)


def connect(path: Path) -> sqlite3.Connection:
    """A write-ahead log that is synced now and then: a killed process loses nothing, and of a lost
    machine's last seconds the search, being reproducible, does again what is missing."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def open_storage(where: Where, *, patient: bool = True) -> RDBStorage:
    """The file or database as Optuna has it, with its tables.

    A PostgreSQL that does not answer is waited for, if `patient`. Between two requests it may
    restart; one that is cut off in the middle of a request is an error.
    """
    if isinstance(where, Path):
        return RDBStorage(f"sqlite:///{where}", engine_kwargs={"creator": partial(connect, where)})
    return _tried(lambda: _open(where), OperationalError, BUSY_SECONDS * patient)


def _open(address: str) -> RDBStorage:
    limits = {"pool_pre_ping": True, "connect_args": dict(_REACHED)}
    with _making_tables(address):
        storage = RDBStorage(address, engine_kwargs=limits)
    listen(storage.engine, "do_connect", _connect_patiently)
    return storage


def _connect_patiently(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """What SQLAlchemy is to connect by."""
    refused = dialect.dbapi.OperationalError
    return _tried(lambda: dialect.connect(*arguments, **options), refused, BUSY_SECONDS)


def _tried(attempt: Callable[[], T], refused: type[Exception], seconds: float) -> T:
    """What the attempt gives, which is made again for so long while it is `refused`."""
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except refused:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@contextmanager
def _making_tables(address: str) -> Iterator[None]:
    """One process at a time: two that make them at once would fail.

    ValueError for a database of something else, which Optuna would put its tables into.
    """
    with _connected(address) as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_SECONDS:.0f}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TABLES})
        if connection.scalar(text(_IS_ANOTHERS)):
            raise StudyStoreError(
                f"{shown(address)} is a database of something else; studies need one of their own"
            )
        yield


_IS_ANOTHERS = (
    "SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('version_info') IS NULL"
)


def _connected(address: str) -> Connection:
    return create_engine(address, poolclass=NullPool, connect_args=dict(_REACHED)).connect()


@contextmanager
def only_in(address: str, study: str, busy: str) -> Iterator[None]:
    """For the length of the block, or until the server restarts, nobody else searches the study.

    ValueError, which says `busy`, where somebody does.
    """
    import psycopg
    from psycopg.conninfo import make_conninfo

    uri = address.replace("postgresql+psycopg", "postgresql", 1)
    try:
        connection = psycopg.connect(make_conninfo(uri, **_REACHED), autocommit=True)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise StudyStoreError(f"{shown(address)} cannot be used as a study: {reason}") from None
    try:
        asked = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
        if connection.execute(asked, (_SEARCHER, study)).fetchone() != (True,):
            raise ValueError(busy)
        yield
    finally:
        connection.close()


def close_storage(storage: RDBStorage) -> None:
    """Let go of the file, or of the connections."""
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def opened(where: Where, *, patient: bool = True) -> Iterator[RDBStorage]:
    """The storage for a short while; what the database refuses is a StudyStoreError."""
    with store_errors_told(where):
        storage = open_storage(where, patient=patient)
        try:
            yield storage
        finally:
            close_storage(storage)


def study_names(address: str) -> list[str]:
    """The studies of a PostgreSQL database, which must answer at once."""
    with opened(address, patient=False) as storage:
        return optuna.get_all_study_names(storage)

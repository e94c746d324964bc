"""Where a study is kept, an SQLite file or a PostgreSQL, and how it is read from outside a search.

A file has one writer and needs no service. It must not be opened by several machines, which is what
homes that several machines share have a PostgreSQL for (`mien server start --postgres`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError

from tuning.objectives import Direction, Objective
from tuning.results import FoldRecord, TrialRecord

Where = Path | str
"""An SQLite file with one study, or the address of a PostgreSQL database with many."""

BUSY_SECONDS = 20.0
"""How long a file may be locked by another process, or a PostgreSQL be away, until that is said."""

GOES_ON = "; nothing is lost: --resume goes on"

_MAKING_TABLES = 0x6D69656E
"""PostgreSQL's lock for it: two that make them at the same time would fail."""


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


def open_storage(where: Where) -> RDBStorage:
    """The file or database as Optuna has it, with its tables."""
    if isinstance(where, Path):
        return RDBStorage(f"sqlite:///{where}", engine_kwargs={"creator": partial(connect, where)})
    with _making_tables(where):
        storage = RDBStorage(where, engine_kwargs={"pool_pre_ping": True})
    _wait_for_restarts(storage.engine)
    return storage


@contextmanager
def _making_tables(address: str) -> Iterator[None]:
    with create_engine(address, poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MAKING_TABLES})
        yield


def _wait_for_restarts(engine: Engine) -> None:
    """A PostgreSQL that was there may be away for a while."""

    @event.listens_for(engine, "do_connect")
    def patiently(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.dbapi.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)


def close_storage(storage: RDBStorage) -> None:
    """Let go of the file, or of the connections."""
    storage.remove_session()
    storage.engine.dispose()


def study_names(address: str) -> list[str]:
    """The studies of a PostgreSQL database."""
    with store_errors_told(address):
        storage = open_storage(address)
        try:
            return optuna.get_all_study_names(storage)
        finally:
            close_storage(storage)


def folds_json(record: TrialRecord) -> dict[str, Any]:
    """The folds as JSON values."""
    return {str(index): fold.as_json() for index, fold in record.folds.items()}


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A trial as Optuna has it, read back."""
    kept = trial.user_attrs
    folds = {int(index): FoldRecord.from_json(fold) for index, fold in kept["folds"].items()}
    return TrialRecord(
        number=kept["number"],
        params=kept["params"],
        state=TrialState(trial.state).name,
        folds=folds,
        run_id=kept.get("run_id"),
        error=kept.get("error"),
        deaths=kept["deaths"],
    )


def read_study(where: Where, name: str) -> tuple[tuple[TrialRecord, ...], dict[str, Any]]:
    """The records of a study, and what was kept with it; `objective` is the first one.

    ValueError where the file or database has no such study, or cannot be read.
    """
    try:
        with store_errors_told(where):
            storage = open_storage(where)
            study = optuna.load_study(study_name=name, storage=storage)
            trials = study.get_trials(deepcopy=False)
            latest = {trial.user_attrs["number"]: trial for trial in trials}
            kept, direction = study.user_attrs, study.directions[0].name.lower()
            close_storage(storage)
    except KeyError as error:
        raise ValueError(f"{shown(where)} cannot be used as a study: {error}") from None
    name = kept["identity"]["objectives"].split(", ")[0]
    way: Direction = "maximize" if direction == "maximize" else "minimize"
    objective = Objective(name=name, direction=way, capability=None)
    records = tuple(record_of(trial) for _, trial in sorted(latest.items()))
    return records, {**kept, "objective": objective}

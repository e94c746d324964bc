"""How a study lies in its SQLite file, and how it is read without being worked on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DatabaseError

from tuning.objectives import Direction, Objective
from tuning.results import FoldRecord, TrialRecord

BUSY_SECONDS = 20.0
"""How long a database may be locked by another process before that is said."""


GOES_ON = "; nothing is lost: --resume goes on"


class StudyFileError(ValueError):
    """A study's file that is none, is locked by another process, or cannot be written."""


@contextmanager
def file_errors_told(path: Path, beside: str = "") -> Iterator[None]:
    """What SQLite refuses within the block is a StudyFileError of one line, which ends in `beside`.

    Optuna wraps most of it in an error that says nothing of the cause.
    """
    try:
        yield
    except (DatabaseError, StorageInternalError) as error:
        refused = error if isinstance(error, DatabaseError) else error.__cause__
        reason = getattr(refused, "orig", None) or refused or error
        raise StudyFileError(f"{path} cannot be used as a study: {reason}{beside}") from None


def connect(path: Path) -> sqlite3.Connection:
    """A write-ahead log that is synced now and then: a killed process loses nothing, and of a lost
    machine's last seconds the search, being reproducible, does again what is missing."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def open_storage(path: Path) -> RDBStorage:
    """The study's file as Optuna has it."""
    return RDBStorage(f"sqlite:///{path}", engine_kwargs={"creator": partial(connect, path)})


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


def read_study(path: Path) -> tuple[tuple[TrialRecord, ...], dict[str, Any]]:
    """The records of a study's file, and what was kept with it; `objective` is the first one.

    ValueError where the file is no study, or cannot be read.
    """
    try:
        with file_errors_told(path):
            storage = open_storage(path)
            study = optuna.load_study(study_name=path.stem, storage=storage)
            trials = study.get_trials(deepcopy=False)
            latest = {trial.user_attrs["number"]: trial for trial in trials}
            kept, direction = study.user_attrs, study.directions[0].name.lower()
    except KeyError as error:
        raise ValueError(f"{path} cannot be used as a study: {error}") from None
    name = kept["identity"]["objectives"].split(", ")[0]
    way: Direction = "maximize" if direction == "maximize" else "minimize"
    objective = Objective(name=name, direction=way, capability=None)
    records = tuple(record_of(trial) for _, trial in sorted(latest.items()))
    return records, {**kept, "objective": objective}

"""How a study lies in its SQLite file, and how it is read without being worked on."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DatabaseError

from tuning.objectives import Direction, Objective
from tuning.results import FoldRecord, TrialRecord

BUSY_SECONDS = 20.0
"""How long a database may be locked by another process before that is said."""


def connect(path: Path) -> sqlite3.Connection:
    """A write-ahead log that is synced now and then: a killed process loses nothing, and of a lost
    machine's last seconds the search, being reproducible, does again what is missing."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


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

    ValueError where the file is no study.
    """
    try:
        storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"creator": partial(connect, path)})
        study = optuna.load_study(study_name=path.stem, storage=storage)
        latest = {trial.user_attrs["number"]: trial for trial in study.get_trials(deepcopy=False)}
        kept, direction = study.user_attrs, study.directions[0].name.lower()
    except (DatabaseError, KeyError) as error:
        raise ValueError(f"{path} cannot be used as a study: {error}") from None
    name = kept["identity"]["objectives"].split(", ")[0]
    way: Direction = "maximize" if direction == "maximize" else "minimize"
    objective = Objective(name=name, direction=way, capability=None)
    records = tuple(record_of(trial) for _, trial in sorted(latest.items()))
    return records, {**kept, "objective": objective}

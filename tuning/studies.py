"""The studies of this home: their names, their files, what the best of one was."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.home import home
from trainer.config import RunConfig
from trainer.overrides import from_dict
from tuning.results import SearchResult
from tuning.space import with_setting
from tuning.stored import read_study


def studies_dir() -> Path:
    """Where each study has its database."""
    return home() / "studies"


def study_name(system: str, name: str | None, *, resume: bool) -> str:
    """The study to begin or to go on with; without a name, the system's next one (or last).

    ValueError: no name for a file, one to begin that exists, one to resume that does not.
    """
    known = {path.stem for path in studies_dir().glob("*.db")}
    if name is None:
        numbers = [int(stem.rpartition("-")[2]) for stem in known if _is_numbered(stem, system)]
        name = f"{system}-{max(numbers, default=0) + (0 if resume else 1)}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"'{name}' cannot name a study; valid: letters, digits, and any of _ . -")
    if resume and name not in known:
        listed = ", ".join(sorted(known)) or "none yet"
        raise ValueError(f"there is no study '{name}'; studies: {listed}")
    if not resume and name in known:
        raise ValueError(f"study '{name}' exists; go on with --resume, or choose another --name")
    return name


def _is_numbered(stem: str, system: str) -> bool:
    return re.fullmatch(re.escape(system) + r"-\d+", stem) is not None


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """A study has one searcher at a time; the lock goes with its process."""
    studies_dir().mkdir(parents=True, exist_ok=True)
    with (studies_dir() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"study '{name}' is being searched by another process") from None
        yield


def best_of(name: str) -> tuple[RunConfig, Path]:
    """The run that a study was begun with, at the study's best setting, and its lake.

    ValueError where there is no such study or none of its trials is complete.
    """
    path = studies_dir() / f"{study_name('', name, resume=True)}.db"
    records, kept = read_study(path)
    origin, objective = kept.get("origin"), kept["objective"]
    if origin is None:
        raise ValueError(f"study '{name}' was made by an older mien, which did not keep its run")
    result = SearchResult(
        study=name,
        run_id=None,
        objectives=(objective,),
        trials=records,
        status="stopped",
        seconds=0.0,
    )
    if result.best is None:
        raise ValueError(f"study '{name}' has no complete trial yet")
    return with_setting(from_dict(origin), result.best.params), Path(kept["lake"])

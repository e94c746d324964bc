"""The studies of this home: their names, where they are kept, what the best of one was."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from cluster import postgres
from cluster.home import home, postgres_folder, without_password
from cluster.lock import held
from data_service.lakes.lake import Lake
from trainer.config import RunConfig
from trainer.overrides import from_dict
from tuning.databases import Where, only_in, study_names
from tuning.results import SearchResult, TrialRecord
from tuning.space import with_setting
from tuning.stored import read_study


def studies_dir() -> Path:
    """Where each study has its file, if it is kept in one, and its lock."""
    return home() / "studies"


def _database() -> str | None:
    """The address of the PostgreSQL that new studies are kept in; None where they have files.

    It is that of `MIEN_STUDIES`, else this home's own. ValueError where neither can be used.
    """
    given = os.environ.get("MIEN_STUDIES")
    if given:
        if not given.startswith("postgresql+psycopg://"):
            raise ValueError(
                "MIEN_STUDIES is no address of a PostgreSQL; valid: "
                "postgresql+psycopg://USER@HOST/DATABASE?passfile=FILE"
            )
        return without_password("MIEN_STUDIES", given, "it in ~/.pgpass or ?passfile=FILE")
    folder = postgres_folder()
    return postgres.join(folder, postgres.STUDIES) if postgres.exists(folder) else None


def _file(name: str) -> Path:
    return studies_dir() / f"{name}.db"


def _names() -> set[str]:
    """Every study of this home, in files and in the database."""
    database = _database()
    kept = study_names(database) if database else []
    return {*kept, *(path.stem for path in studies_dir().glob("*.db"))}


def place_of(name: str) -> Where:
    """Where the study is kept, or is to be kept; one that was begun in a file stays there."""
    return _file(name) if _file(name).exists() else _database() or _file(name)


def study_name(system: str, name: str | None, *, resume: bool) -> str:
    """The study to begin or to go on with; without a name, the system's next one (or last).

    ValueError: no name for a file, one to begin that exists, one to resume that does not.
    """
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"'{name}' cannot name a study; valid: letters, digits, and any of _ . -")
    known = {name} if name is not None and _file(name).exists() else _names()
    if name is None:
        numbers = [int(stem.rpartition("-")[2]) for stem in known if _is_numbered(stem, system)]
        if resume and not numbers:
            raise ValueError(f"there is no study of {system} yet; studies: {_listed(known)}")
        name = f"{system}-{max(numbers, default=0) + (0 if resume else 1)}"
    if resume and name not in known:
        raise ValueError(f"there is no study '{name}'; studies: {_listed(known)}")
    if not resume and name in known:
        raise ValueError(f"study '{name}' exists; go on with --resume, or choose another --name")
    return name


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none yet"


def going_on(name: str) -> str:
    """What is said of a search that was stopped."""
    return f"stopped; to go on: mien tune ... --name {name} --resume, all else as before"


def _is_numbered(stem: str, system: str) -> bool:
    return re.fullmatch(re.escape(system) + r"-\d+", stem) is not None


@contextmanager
def only_searcher(name: str) -> Iterator[None]:
    """The lock of a study, which has one searcher at a time; ValueError where there is another.

    A database may serve several homes, and keeps a lock of its own.
    """
    busy = f"study '{name}' is being searched by another process"
    with held(studies_dir() / f"{name}.lock", busy):
        where = place_of(name)
        with nullcontext() if isinstance(where, Path) else only_in(where, name, busy):
            yield


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The run that a study was begun with, at the study's best setting; the lake of its search.

    `unseen` is the fold of that lake whose test subjects the choice never saw; None where folds of
    all subjects left none.
    """

    study: str
    run: RunConfig
    lake: Path
    lake_hash: str
    unseen: str | None

    def fold_on(
        self, lake: Path | None, fold: str | None, *, allow_leaks: bool
    ) -> tuple[str | None, str | None]:
        """The fold to train on `lake` (None: the study's), and the study if its choice saw it.

        ValueError where it did, and that is not allowed. Of another lake it saw nothing, unless
        that holds faces of the study's, at whatever size: then nobody knows which were whose test.
        """
        if lake is not None and (other := Lake.open(lake)).hash != self.lake_hash:
            if not _share_faces(other, Lake.open(self.lake)):
                return fold, None
            if allow_leaks:
                return fold, self.study
            raise ValueError(
                f"{lake} holds faces of {self.lake}, on which study '{self.study}' chose; train "
                "there, or nevertheless here: --allow-leaks"
            )
        fold = self.unseen if fold is None else fold
        if fold is not None and fold == self.unseen:
            return fold, None
        if allow_leaks:
            return fold, self.study
        if self.unseen is None:
            raise ValueError(
                f"study '{self.study}' chose by folds of all subjects, and none is left for a "
                "test; search with --outer K/N, or train nevertheless: --allow-leaks"
            )
        raise ValueError(
            f"study '{self.study}' chose by subjects that fold {fold} tests; leave --fold out for "
            f"{self.unseen}, which it never saw, or train nevertheless: --allow-leaks"
        )


def _share_faces(one: Lake, other: Lake) -> bool:
    names = [set(lake.table["sample_id"].to_pylist()) for lake in (one, other)]
    return not names[0].isdisjoint(names[1])


def best_of(study: str) -> Best:
    """What `mien train --from-study` trains: the best of study NAME, or with NAME:7 its trial 7.

    ValueError where there is no such study, or none of its trials, or not that one, is complete.
    """
    name, _, number = study.partition(":")
    name = study_name("", name, resume=True)
    records, kept = read_study(place_of(name), name)
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
    return Best(
        study=name,
        run=with_setting(from_dict(origin), _complete(result, number).params),
        lake=Path(kept["lake"]),
        lake_hash=kept["identity"].get("lake", ""),
        unseen=kept.get("unseen"),
    )


def _complete(result: SearchResult, number: str) -> TrialRecord:
    """The best trial, or the one with the number."""
    complete = {str(one.number): one for one in result.trials if one.state == "COMPLETE"}
    chosen = complete.get(number) if number else result.best
    if chosen is None and number and complete:
        raise ValueError(
            f"study '{result.study}' has no complete trial '{number}'; complete are "
            f"{', '.join(complete)}"
        )
    if chosen is None:
        raise ValueError(f"study '{result.study}' has no complete trial yet")
    return chosen

"""Studies in a PostgreSQL: those of files, bit for bit, and what happens when it goes away."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import optuna
import psutil
import pytest

from cluster import postgres
from tests.postgres_home import open_home
from tests.studies import PLAN, Interrupted, essence, train, work_on
from trainer import catalog
from trainer.config import to_dict
from tuning.stored import StudyStoreError, open_storage, read_study
from tuning.studies import best_of, place_of, study_name
from tuning.study import Study

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch, open_home(patch) as folder:
        postgres.start(folder / "postgres")
        yield folder


@pytest.fixture
def database(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """No studies in it."""
    monkeypatch.setenv("MIEN_HOME", str(home))
    postgres.start(home / "postgres")
    address = postgres.address(home / "postgres", postgres.STUDIES)
    for name in optuna.get_all_study_names(open_storage(address)):
        optuna.delete_study(study_name=name, storage=address)
    return address


def kill(home: Path) -> None:
    """SIGKILL of PostgreSQL, all of it."""
    leader = psutil.Process(int((home / "postgres/data/postmaster.pid").read_text().split()[0]))
    family = [leader, *leader.children()]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)


def test_killed_searches_come_to_what_one_in_a_file_comes_to(tmp_path: Path, database: str) -> None:
    alone = work_on(tmp_path / "alone.db", trials=13)
    budget = [0]

    def killed(*given: Any, **rest: Any) -> Any:
        budget[0] -= 1
        if budget[0] == 0:
            raise Interrupted
        return train(*given, **rest)

    for budget[0] in (1, 4, 100):
        try:
            records = work_on(database, trials=13, train=killed)
        except Interrupted:
            continue
    assert essence(records) == essence(alone)
    kept, _ = read_study(database, "study")
    assert essence(kept) == essence(alone)
    assert [one.folds[1].curve for one in kept] == [one.folds[1].curve for one in alone]
    stored = optuna.load_study(study_name="study", storage=database)
    states = [trial.state.name for trial in stored.trials]
    assert "RUNNING" not in states and states.count("FAIL") == 2


def test_a_search_waits_for_a_postgres_that_was_killed_and_comes_back(
    tmp_path: Path, home: Path, database: str
) -> None:
    restarts: list[threading.Timer] = []

    def disturbed(*given: Any, **rest: Any) -> Any:
        if not restarts:
            kill(home)
            restarts.append(threading.Timer(1.0, postgres.start, [home / "postgres"]))
            restarts[0].start()
        return train(*given, **rest)

    records = work_on(database, trials=5, train=disturbed)
    restarts[0].join()
    assert essence(records) == essence(work_on(tmp_path / "alone.db", trials=5))


def test_one_that_does_not_come_back_is_one_line_and_nothing_is_lost(
    tmp_path: Path, home: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.stored.BUSY_SECONDS", 0.1)
    study = Study(database, PLAN, trials=3)
    study.pull(0)
    kill(home)
    says = r"^postgresql\+psycopg://mien@127\.0\.0\.1:\d+/studies cannot be used as a study: \w"
    with pytest.raises(StudyStoreError, match=rf"{says}.*; nothing is lost: --resume goes on$"):
        study.keep("told", 2)
    study.close()
    with pytest.raises(StudyStoreError, match=says):
        Study(database, PLAN, trials=3)
    with pytest.raises(ValueError, match="which does not run on this machine: `mien server start`"):
        study_name("fake", None, resume=False)
    postgres.start(home / "postgres")
    records = work_on(database, trials=3)
    assert essence(records) == essence(work_on(tmp_path / "alone.db", trials=3))


_OPEN = """
import sys
from pathlib import Path
from tuning.stored import open_storage
print("ready", flush=True)
sys.stdin.readline()
open_storage(sys.argv[1])
"""


def test_searches_that_begin_at_one_time_make_the_tables_once(home: Path, database: str) -> None:
    import psycopg

    other = database.replace("/studies?", "/fresh?")
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    command = [sys.executable, "-c", _OPEN, other]
    racers = [Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    assert [racer.communicate()[1] for racer in racers] == ["", "", ""]


def test_a_home_with_a_postgres_keeps_new_studies_there(
    home: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "studies").mkdir(exist_ok=True)
    name = study_name("fake", None, resume=False)
    assert (name, place_of(name)) == ("fake-1", database)
    study = Study(database, PLAN, trials=1)
    study.keep("origin", to_dict(catalog.recipe("fersnet.tiny")))
    study.close()
    with pytest.raises(ValueError, match="study 'study' has no complete trial yet"):
        best_of("study")
    with pytest.raises(ValueError, match="study 'study' exists; go on with --resume"):
        study_name("fake", "study", resume=False)
    earlier = home / "studies" / "fake-1.db"
    earlier.touch()
    assert study_name("fake", None, resume=False) == "fake-2"
    assert place_of("fake-1") == earlier, "one that was begun in a file stays there"
    earlier.unlink()


def test_any_postgres_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    monkeypatch.setenv("MIEN_STUDIES", "postgresql+psycopg://me@db/studies?passfile=pass")
    assert place_of("mine") == "postgresql+psycopg://me@db/studies?passfile=pass"
    monkeypatch.setenv("MIEN_STUDIES", "postgresql+psycopg://me:secret@db/studies")
    with pytest.raises(ValueError, match="MIEN_STUDIES holds a password; give") as told:
        place_of("mine")
    assert "secret" not in str(told.value)
    monkeypatch.setenv("MIEN_STUDIES", "mysql://me@db/studies")
    with pytest.raises(ValueError, match="no address of a PostgreSQL; valid: postgresql"):
        place_of("mine")

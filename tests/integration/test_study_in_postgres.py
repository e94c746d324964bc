"""Studies in a PostgreSQL: those of files, bit for bit, and what happens when it goes away."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
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
from tuning.databases import StudyStoreError, opened
from tuning.slots import StudyOwner
from tuning.stored import read_study
from tuning.studies import best_of, only_searcher, place_of, study_name
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
    with opened(address) as storage:
        for name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
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
    monkeypatch.setattr("tuning.databases.BUSY_SECONDS", 0.1)
    study = Study(database, PLAN, trials=3)
    study.pull(0)
    kill(home)
    says = r"^postgresql\+psycopg://mien@127\.0\.0\.1:\d+/studies cannot be used as a study: \w"
    with pytest.raises(StudyStoreError, match=rf"{says}.*; nothing is lost: --resume goes on$"):
        study.keep("told", 2)
    study.close()
    with pytest.raises(StudyStoreError, match=says):
        Study(database, PLAN, trials=3)
    owner = StudyOwner(database, PLAN, trials=3)
    assert owner.is_stopping() and owner.ask("pull", 0) is None
    assert re.match(says, owner.failure() or "")
    with pytest.raises(ValueError, match="of this home does not run: `mien server start`"):
        study_name("fake", None, resume=False)
    postgres.start(home / "postgres")
    records = work_on(database, trials=3)
    assert essence(records) == essence(work_on(tmp_path / "alone.db", trials=3))


_OPEN = """
import sys
from pathlib import Path
from tuning.databases import open_storage
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
    name = study_name("fake", None, resume=False)
    assert (name, place_of(name)) == ("fake-1", database)
    study = Study(database, PLAN, trials=1)
    study.keep("origin", to_dict(catalog.recipe("fersnet.tiny")))
    study.close()
    with pytest.raises(ValueError, match="study 'study' has no complete trial yet"):
        best_of("study")
    with pytest.raises(ValueError, match="study 'study' exists; go on with --resume"):
        study_name("fake", "study", resume=False)
    (home / "postgres" / "host").write_text("elsewhere")
    with pytest.raises(ValueError, match="of this home can be used on elsewhere alone: go there"):
        place_of("fake-1")


def test_a_study_that_was_begun_in_a_file_stays_there(home: Path, database: str) -> None:
    (home / "studies").mkdir(exist_ok=True)
    earlier = home / "studies" / "fake-1.db"
    work_on(earlier, replace(PLAN, name="fake-1"), trials=2)
    assert study_name("fake", None, resume=False) == "fake-2"
    kill(home)
    assert study_name("fake", "fake-1", resume=True) == "fake-1", "no PostgreSQL is asked"
    assert place_of("fake-1") == earlier
    earlier.unlink()


def test_homes_that_share_a_database_search_a_study_one_at_a_time(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_STUDIES", database)
    with only_searcher("shared"):
        monkeypatch.setenv("MIEN_HOME", str(tmp_path / "other"))
        with only_searcher("mine"):
            pass
        busy = "study 'shared' is being searched by another process"
        with pytest.raises(ValueError, match=busy), only_searcher("shared"):
            pass
    with only_searcher("shared"):
        pass


def test_a_setting_that_was_queued_twice_is_trained_once(tmp_path: Path, database: str) -> None:
    study = Study(database, PLAN, trials=5)
    study.pull(0)
    first = study.records()[1]
    study._enqueue(first)  # as Optuna does where the answer to its commit was lost
    study.close()
    numbers: list[int] = []

    def noted(run: Any, *given: Any, **rest: Any) -> Any:
        numbers.append(run.system.weights.pixel)
        return train(run, *given, **rest)

    records = work_on(database, trials=5, train=noted)
    assert len(numbers) == 5
    study = Study(database, PLAN, trials=5)
    study._enqueue(records[2])
    study.close()
    assert essence(read_study(database, "study")[0]) == essence(records)
    assert essence(work_on(database, trials=5, train=noted)) == essence(records)
    assert len(numbers) == 5
    assert essence(records) == essence(work_on(tmp_path / "alone.db", trials=5))


def test_a_database_of_something_else_is_refused(database: str) -> None:
    import psycopg

    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE runs")
    other = database.replace("/studies?", "/runs?")
    with psycopg.connect(other.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        with pytest.raises(StudyStoreError, match="/runs is a database of something else; studies"):
            Study(other, PLAN, trials=1)
        assert connection.execute("SELECT to_regclass('trials')").fetchone() == (None,)
    optuna.create_study(study_name="study", storage=database).enqueue_trial({})
    with pytest.raises(ValueError, match="holds a study 'study' that mien did not make"):
        Study(database, PLAN, trials=1)
    with pytest.raises(ValueError, match="it holds none of mien's named 'study'"):
        read_study(database, "study")


def test_any_postgres_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    monkeypatch.setenv("MIEN_STUDIES", "postgresql+psycopg://me@db/studies?passfile=pass")
    assert place_of("mine") == "postgresql+psycopg://me@db/studies?passfile=pass"
    for hidden in ("me:secret@db", "me:se/secret@db", "me:#secret@db"):
        monkeypatch.setenv("MIEN_STUDIES", f"postgresql+psycopg://{hidden}/studies")
        with pytest.raises(ValueError, match="MIEN_STUDIES holds a password; give it in") as told:
            place_of("mine")
        assert "secret" not in str(told.value)
    monkeypatch.setenv("MIEN_STUDIES", "mysql://me@db/studies")
    with pytest.raises(ValueError, match="no address of a PostgreSQL; valid: postgresql"):
        place_of("mine")

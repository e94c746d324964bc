"""A run goes on in the MLflow that has it, at whatever address that is by now."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.lock import held
from tests.made_runs import recorded
from trainer import catalog, copies, job, launch
from trainer.job import Job
from trainer.tracking import moved
from trainer.tracking.tracker import create_run

RUN = catalog.recipe("baseline.tiny")
GONE = "http://head:5000"


@pytest.fixture
def went_on(store: str, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What would be trained; nothing is."""
    seen: list[Job] = []

    def work(resumed: Job, *_: Any) -> Iterator[None]:
        seen.append(resumed)
        yield from ()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(launch, "work_in_steps", work)
    monkeypatch.setattr(launch.RunResult, "read", lambda directory: None)
    return seen


@pytest.fixture
def begun(store: str) -> Job:
    """A run of that MLflow, begun while it had another address."""
    return recorded(RUN, create_run(store, "moved", "a run", tags={}, params={}), tracking_uri=GONE)


def resumed(run: str) -> None:
    launch.train(RUN, Path("lake"), resume=run)


def by_id(begun: Job, folder: Path) -> str:
    """In its home."""
    return begun.run_id[:8]


def by_folder(begun: Job, folder: Path) -> str:
    """A copy of the run that lies in no home."""
    return str(shutil.move(begun.directory, folder / begun.run_id))


def by_address(begun: Job, folder: Path) -> str:
    """Copies at an address; the home has lost it."""
    copies.begin(f"file://{folder}", begun.directory)
    shutil.rmtree(begun.directory)
    return f"file://{folder / begun.run_id}"


@pytest.mark.parametrize("named", [by_id, by_folder, by_address])
def test_another_address_of_the_same_mlflow(
    named: Callable[[Job, Path], str], store: str, begun: Job, went_on: list[Job], tmp_path: Path
) -> None:
    before = job.read_json(begun.directory / "run.json")
    resumed(named(begun, tmp_path))
    (found,) = went_on
    assert found.tracking_uri == store
    assert job.read_json(found.directory / "run.json") == {**before, "tracking_uri": store}


def test_another_mlflow(went_on: list[Job]) -> None:
    begun = recorded(RUN, "abcd", tracking_uri=GONE)
    job.set_status(begun.directory, "running")
    says = rf"has no run abcd, which began in {GONE}: set MLFLOW_TRACKING_URI, or the home, to"
    with pytest.raises(ValueError, match=says):
        resumed("abcd")
    assert not went_on and job.load(begun.directory) == begun
    assert job.read_json(begun.directory / "status.json")["state"] == "running"


def test_where_the_new_one_has_it_not_and_the_old_one_does(
    store: str, went_on: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a variable was set when the run began, and is not now."""
    begun = recorded(
        RUN, create_run(store, "moved", "a run", tags={}, params={}), tracking_uri=store
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    resumed(begun.run_id)
    assert went_on == [begun]
    assert not (tmp_path / "other.db").exists()


def test_a_finished_run_gives_its_result_though_no_mlflow_has_it(
    went_on: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = recorded(RUN, "abcd", tracking_uri=GONE)
    job.write_json(begun.directory / "result.json", {"status": "finished", "images": 8})
    monkeypatch.setattr(launch.RunResult, "finished", lambda directory: "its result")
    assert launch.train(RUN, Path("lake"), resume="abcd") == "its result"
    assert not went_on


def test_where_the_address_is_the_same_nobody_is_asked(
    begun: Job, went_on: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", GONE)
    monkeypatch.setattr(moved, "knows", pytest.fail)
    resumed(begun.run_id)
    assert went_on == [begun]


def test_a_run_that_is_being_trained_stays_where_it_is(begun: Job, went_on: list[Job]) -> None:
    with (
        held(begun.directory / "lock", "taken"),
        pytest.raises(ValueError, match="is being trained by another process"),
    ):
        resumed(begun.run_id)
    assert not went_on and job.load(begun.directory) == begun

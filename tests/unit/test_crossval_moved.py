"""A cross-validation goes on in the MLflow that has its run, at whatever address that is by now."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.home import runs_dir
from tests.made_runs import recorded
from trainer import catalog, crossval
from trainer import job as jobs
from trainer.tracking.tracker import create_run

RUN = catalog.recipe("baseline.tiny")
GONE = "http://head:5000"


@pytest.fixture
def went_on(store: str, monkeypatch: pytest.MonkeyPatch) -> list[crossval.CrossvalJob]:
    """What would be trained; nothing is."""
    seen: list[crossval.CrossvalJob] = []
    lake = SimpleNamespace(open=lambda path: SimpleNamespace(hash="0"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(crossval, "Lake", lake)
    monkeypatch.setattr(crossval, "_train_and_conclude", lambda job, *_: seen.append(job))
    return seen


def begun(run_id: str, tracking_uri: str) -> None:
    crossval.CrossvalJob(
        run_id=run_id,
        directory=runs_dir() / run_id,
        run=RUN,
        lake=Path("lake"),
        lake_hash="0",
        folds=2,
        tracking_uri=tracking_uri,
        experiment="moved",
    ).save()


def test_another_address_of_the_same_mlflow(store: str, went_on: list[Any]) -> None:
    run_id = create_run(store, "moved", "x2", tags={}, params={})
    begun(run_id, GONE)
    own = recorded(RUN, "own", parent=run_id, tracking_uri=GONE).directory
    other = recorded(RUN, "other", tracking_uri=GONE).directory
    before = jobs.read_json(own / "run.json")
    crossval.resume(run_id)
    assert [job.tracking_uri for job in went_on] == [store]
    assert crossval.CrossvalJob.find(run_id) == went_on[0]
    assert jobs.read_json(own / "run.json") == {**before, "tracking_uri": store}
    assert jobs.load(other).tracking_uri == GONE


def test_another_mlflow(store: str, went_on: list[Any]) -> None:
    begun("abcd", store)
    with pytest.raises(ValueError, match="has no run of cross-validation abcd, which began in ano"):
        crossval.resume("abcd")
    assert not went_on

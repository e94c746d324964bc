"""A run that MLflow has, and that cannot be begun here, is no running one there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.mlflow_store import ensure_store
from data_service.ingest import ingest
from trainer import catalog, copies, crossval, job, launch
from trainer.overrides import with_overrides
from trainer.tracking.tracker import create_run

RUN = catalog.recipe("baseline.tiny")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "lake"
    ingest("drawn", None, path, image_size=48, options={"subjects": 6, "faces_per_subject": 8})
    return path


@pytest.fixture
def made(store: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that MLflow has been told of."""
    runs: list[str] = []

    def create(*given: Any, **about: Any) -> str:
        runs.append(create_run(*given, **about))
        return runs[-1]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(launch, "create_run", create)
    monkeypatch.setattr(crossval, "create_run", create)
    return runs


def refused(*_: Any) -> None:
    raise OSError("No space left on device")


def status(run_id: str, store: str) -> str:
    return ensure_store(store).get_run(run_id).info.status


def test_a_run_that_is_not_written_down(
    lake: Path, store: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "save", refused)
    with pytest.raises(OSError, match="No space left"):
        launch.train(RUN, lake, fold="1/3")
    assert [status(one, store) for one in made] == ["FAILED"]


def test_a_run_without_a_place_for_its_copies(
    lake: Path, store: str, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "begin", refused)
    copied = with_overrides(RUN, {"checkpoint.copy_to": f"file://{tmp_path}"})
    with pytest.raises(OSError, match="No space left"):
        launch.train(copied, lake, fold="1/3")
    assert [status(one, store) for one in made] == ["FAILED"]
    assert job.read_json(job.find(made[0]) / "status.json")["state"] == "failed"


def test_a_cross_validation_that_is_not_written_down(
    lake: Path, store: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossval.CrossvalJob, "save", refused)
    with pytest.raises(OSError, match="No space left"):
        crossval.crossval(RUN, lake, 3)
    assert [status(one, store) for one in made] == ["FAILED"]


def test_a_fold_without_a_name_is_none(lake: Path, made: list[str]) -> None:
    with pytest.raises(ValueError, match="fold ''"):
        launch.train(RUN, lake, fold="")
    assert not made

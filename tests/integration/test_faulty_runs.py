"""Runs that cannot go on: each says why at once, and is told of as failed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cluster.lock import held
from cluster.session import Session
from data_service.ingest import ingest
from trainer import catalog, job, launch
from trainer.overrides import with_overrides
from trainer.training import NonFiniteTermError

RUN = with_overrides(catalog.recipe("baseline.tiny"), {"system.images": 256})


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    ingest("drawn", None, path, image_size=48, options={"subjects": 6, "faces_per_subject": 8})
    return path


def state(run: str) -> str:
    return job.read_json(job.find(run) / "status.json")["state"]


@pytest.fixture
def begun(lake: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that died before its first step."""

    def dies(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(launch, "work_in_steps", dies)
        with pytest.raises(KeyboardInterrupt):
            launch.train(RUN, lake, fold="1/3")
    (run,) = job.records()
    return run["run_id"]


def test_a_run_has_one_process(lake: Path, begun: str) -> None:
    with (
        held(job.find(begun) / "lock", "taken"),
        pytest.raises(ValueError, match="is being trained by another process"),
    ):
        launch.train(RUN, lake, resume=begun)
    assert state(begun) == "starting"
    assert launch.train(RUN, lake, resume=begun).status == "finished"


def test_a_lake_that_is_another_one_is_refused_and_the_run_has_failed(
    lake: Path, begun: str
) -> None:
    own = job.load(job.find(begun))
    job.save(dataclasses.replace(own, lake_hash="another"))
    with pytest.raises(ValueError, match="is no longer the lake that run"):
        launch.train(RUN, lake, resume=begun)
    assert state(begun) == "failed"


def test_what_goes_wrong_for_good_is_not_tried_again(lake: Path, ray_session: Session) -> None:
    wild = {"engine.workers": 2, "system.optimizer.learning_rate": 1e30}
    with pytest.raises(NonFiniteTermError, match=r"stage .*, turn of .*: not finite"):
        launch.train(with_overrides(RUN, wild), lake, fold="1/3")
    (run,) = job.records()
    assert state(run["run_id"]) == "failed"

"""A cross-validation that was killed in its second fold goes on and repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_service.ingest import ingest
from trainer import catalog, crossval, work
from trainer import job as jobs
from trainer.overrides import with_overrides
from trainer.session import Session
from trainer.training import StepResult

RUN = with_overrides(
    catalog.recipe("baseline.tiny"), {"system.images": 192, "checkpoint.every_steps": 1}
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    ingest("drawn", None, path, image_size=48, options={"subjects": 9, "faces_per_subject": 8})
    return path


def test_killed_and_resumed_equals_left_alone(
    lake: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = crossval.crossval(RUN, lake, 3)
    before = set(jobs.runs_dir().iterdir())
    after_step = work.after_step

    def dies(session: Session, result: StepResult) -> None:
        after_step(session, result)
        if session.job.fold == "2/3" and result.progress.step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "after_step", dies)
        with pytest.raises(KeyboardInterrupt, match="--resume") as hint:
            crossval.crossval(RUN, lake, 3)
    begun = {path.name for path in set(jobs.runs_dir().iterdir()) - before}
    run_id = str(hint.value).split()[-1]
    assert len(begun) == 3 and run_id in begun
    (first,) = (one for one in jobs.records() if one["parent"] == run_id and one["fold"] == "1/3")
    result = Path(first["directory"]) / "result.json"
    written = result.stat().st_mtime_ns

    steps: list[int] = []

    def watched(session: Session, result: StepResult) -> None:
        steps.append(result.progress.step)
        after_step(session, result)

    with monkeypatch.context() as patch:
        patch.setattr(work, "after_step", watched)
        resumed = crossval.resume(run_id[:8])

    assert steps[0] > 1, "the second fold goes on from its checkpoint"

    assert resumed.run_id == run_id
    assert resumed.scorecard == alone.scorecard
    assert [one.ledger for one in resumed.folds] == [one.ledger for one in alone.folds]
    assert result.stat().st_mtime_ns == written
    assert len(set(jobs.runs_dir().iterdir()) - before) == 4
    assert crossval.resume(run_id).as_json() == resumed.as_json()


def test_what_cannot_be_resumed_is_told(own_home: Path, lake: Path) -> None:
    with pytest.raises(ValueError, match="'abcd' must name one cross-validation"):
        crossval.resume("abcd")
    job = crossval.CrossvalJob(
        run_id="abcd",
        directory=own_home / "runs" / "abcd",
        run=RUN,
        lake=lake,
        lake_hash="another",
        folds=3,
        tracking_uri="sqlite:///none.db",
        experiment="test",
    )
    job.save()
    assert crossval.CrossvalJob.find("ab") == job
    with pytest.raises(ValueError, match="no longer the lake"):
        crossval.resume("abcd")

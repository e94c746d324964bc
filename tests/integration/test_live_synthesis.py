"""A recogniser that is trained with faces which an actor makes meanwhile."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cluster.mlflow_store import ensure_store
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.planning.plan import Plan
from data_service.synthesis.attempts import Admission, Attempts
from data_service.synthesis.live_pool import LivePool
from trainer import catalog, feed, launch, work
from trainer import job as jobs
from trainer.config import PoolConfig, RunConfig
from trainer.ledger import of_plan
from trainer.overrides import with_overrides
from trainer.session import Session
from trainer.synthetic import live_pool
from trainer.synthetic.synthesise import Source

pytestmark = pytest.mark.usefixtures("ray_session")

FOLD = "1/3"
LEARNER = with_overrides(
    catalog.recipe("baseline.tiny"),
    {"system.images": 2560, "data.synthetic_share": 0.3, "checkpoint.every_steps": 10},
)
WAITS, DIES = 20, 45
"""The steps after which the training waits for the first faces, and is killed."""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    ingest("drawn", None, path, image_size=48, options={"subjects": 6, "faces_per_subject": 16})
    return path


@pytest.fixture
def generator(lake: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A trained run, whose actor asks no judges; they are tested elsewhere."""

    class Unasked:
        hash, chance = "unasked", (0.0,) * 8

        def __call__(self, attempts: Attempts) -> tuple[str, ...]:
            return tuple("" if row % 5 else "identity" for row in attempts.source_rows)

    class Willing(live_pool._Filler):
        def gate(self, source: Source, config: PoolConfig) -> Admission:
            return Unasked()

    monkeypatch.setattr(live_pool, "_Filler", Willing)
    maker = with_overrides(catalog.recipe("pixel_fes.tiny"), {"system.images": 320})
    return launch.train(maker, lake, fold=FOLD).run_id


def trained(lake: Path, run: RunConfig = LEARNER, **options: Any) -> launch.RunResult:
    return launch.train(run, lake, fold=None if "resume" in options else FOLD, **options)


def patient(monkeypatch: pytest.MonkeyPatch, dies: bool) -> None:
    """The training waits, in one of its steps, for some faces, and may be killed in a later one."""
    after_step = work.after_step

    def waits(state: Session, result: Any) -> None:
        after_step(state, result)
        step = state.training.progress.step
        deadline = time.monotonic() + 300
        while step == WAITS and len(LivePool(state.job.live_pool)) < 20:
            assert time.monotonic() < deadline, "no face was admitted"
            time.sleep(0.1)
        if dies and step == DIES:
            assert state.writer is not None
            state.writer.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr(work, "after_step", waits)


def test_killed_resumed_and_replayed(
    lake: Path, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(jobs.runs_dir().iterdir())
    with monkeypatch.context() as patch:
        patient(patch, dies=True)
        with pytest.raises(KeyboardInterrupt):
            trained(lake, synthetic=f"live:{generator}")
    (killed,) = set(jobs.runs_dir().iterdir()) - before
    with monkeypatch.context() as patch:
        patient(patch, dies=False)
        resumed = trained(lake, resume=killed.name)

    live = killed / "live"
    assert resumed.ledger == shown(lake, live)
    replayed = trained(lake, synthetic=live)
    assert replayed.ledger == resumed.ledger
    weights = [one.directory / "weights.safetensors" for one in (resumed, replayed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    check_record(resumed.run_id, generator, LivePool(live))


def planned(lake: Path, live: Path) -> tuple[Plan, np.ndarray]:
    """The plan that the run's ledger tells of, and which of its faces are synthetic."""
    opened, spec = Lake.open(lake), feed.spec_of(LEARNER)
    data = feed.prepare(LEARNER, spec, opened, FOLD)
    stages = spec.build(LEARNER.system, data.info).stages()
    plan = feed.plan_of(LEARNER, data, opened, stages, LivePool(live, replayed=True))
    steps = [plan.step(index).synthetic for index in range(plan.num_steps)]
    return plan, np.concatenate(steps)


def shown(lake: Path, live: Path) -> int:
    """The ledger of the run's plan, which never shows more synthetic faces than was asked."""
    plan, synthetic = planned(lake, live)
    assert not synthetic[: 16 * 32].any() and synthetic[32 * 32 :].any()
    assert (synthetic.cumsum() <= np.arange(1, len(synthetic) + 1) * 0.3 + 16 * 32 * 0.3).all()
    assert synthetic.mean() <= 0.3
    return of_plan(plan)


def check_record(run_id: str, generator: str, live: LivePool) -> None:
    job = jobs.load(jobs.find(run_id))
    assert job.live == generator
    store = ensure_store(job.tracking_uri)
    run = store.get_run(run_id)
    assert run.data.tags["mien.synthetic"] == f"live:{generator}"
    assert 20 <= run.data.metrics["synthetic/faces"] <= len(live)
    rates = {name for name in run.data.metrics if name.startswith("synthetic/admission_rate/")}
    assert rates and all(0 < run.data.metrics[name] < 1 for name in rates)
    assert run.data.metrics["synthetic/refused/identity"] > 0
    pictures = {one.path for one in store.list_artifacts(run_id)}
    assert pictures >= {"synthetic~admitted.png", "synthetic~refused.png"}


def test_a_synthesis_that_fails_ends_no_training(
    lake: Path, generator: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def fill(self, directory: Path) -> None:
            raise ValueError("out of order")

    monkeypatch.setattr(live_pool, "_Filler", Broken)
    after_step = work.after_step
    monkeypatch.setattr(work, "after_step", lambda *told: (after_step(*told), time.sleep(0.1)))
    with caplog.at_level(logging.WARNING):
        result = trained(lake, synthetic=f"live:{generator}")
    assert result.status == "finished"
    assert f"has no more faces by {generator}: " in caplog.text and "out of order" in caplog.text


def test_a_synthesis_that_hangs_stalls_no_training(
    lake: Path, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All faces are real, as many as were asked, and who hung is gone with the run."""

    class Hangs:
        def fill(self, directory: Path) -> None:
            (directory / "hangs").write_text(str(os.getpid()))
            while True:
                time.sleep(3600)

    def waits(state: Session, result: Any) -> None:
        after_step(state, result)
        deadline = time.monotonic() + 300
        while not (state.job.directory / "hangs").is_file():
            assert time.monotonic() < deadline, "the actor was never asked"
            time.sleep(0.1)

    monkeypatch.setattr(live_pool, "_Filler", Hangs)
    after_step = work.after_step
    monkeypatch.setattr(work, "after_step", waits)
    result = trained(lake, synthetic=f"live:{generator}")
    assert (result.status, result.images) == ("finished", 2560)
    live = result.directory / "live"
    plan, synthetic = planned(lake, live)
    assert len(LivePool(live)) == 0 and not synthetic.any()
    assert result.ledger == of_plan(plan)
    hung = int((result.directory / "hangs").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(hung):
        assert time.monotonic() < deadline, "the actor is still there"
        time.sleep(0.1)

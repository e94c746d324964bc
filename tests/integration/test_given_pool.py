"""From a trained generator to a recogniser that is trained with its faces, in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.mlflow_store import ensure_store
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.synthesis.attempts import Attempts
from tests.made_runs import killed_run
from trainer import catalog, feed, launch
from trainer import job as jobs
from trainer.ledger import of_plan
from trainer.overrides import with_overrides
from trainer.synthetic.admission import CrossFittedGate
from trainer.synthetic.synthesise import synthesise

IMAGES, BATCH = 320, 32


def test_killed_and_resumed_with_a_pool_equals_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    ingest("drawn", None, lake, image_size=48, options={"subjects": 6, "faces_per_subject": 16})
    maker = with_overrides(catalog.recipe("pixel_fes.tiny"), {"system.images": IMAGES})
    generator = launch.train(maker, lake, fold="1/3")
    monkeypatch.setattr("trainer.synthetic.admission.JUDGE_IMAGES", 32)
    monkeypatch.setattr(CrossFittedGate, "__call__", _wary)
    pool = synthesise(generator.run_id, lake, tmp_path / "pool", until=14, gate=0.0)
    assert len(pool) > 0
    learner = with_overrides(
        catalog.recipe("baseline.tiny"),
        {"system.images": IMAGES, "data.synthetic_share": 0.3, "checkpoint.every_steps": 2},
    )

    alone = launch.train(learner, lake, fold="1/3", synthetic=pool.path)
    given = {"fold": "1/3", "synthetic": pool.path}
    killed = killed_run(learner, lake, monkeypatch, step=7, **given)
    resumed = launch.train(learner, lake, resume=killed.name)

    assert resumed.ledger == alone.ledger == _shown(learner, lake, pool.path)
    weights = [one.directory / "weights.safetensors" for one in (alone, resumed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    _check_record(resumed.run_id, pool)


def _wary(gate: CrossFittedGate, attempts: Attempts) -> tuple[str, ...]:
    """Judges that have learnt next to nothing let all pass; so that something is refused."""
    return tuple("" if row % 3 else "identity" for row in attempts.source_rows)


def _shown(learner, lake: Path, path: Path) -> int:
    """The ledger of a plan with exactly three synthetic faces in ten."""
    opened = Lake.open(lake)
    spec = feed.spec_of(learner)
    data = feed.prepare(learner, spec, opened, "1/3")
    stages = spec.build(learner.system, data.info).stages()
    pool = feed.given_pool(learner, path, opened, data, "1/3")
    plan = feed.plan_of(learner, data, opened, stages, pool)
    shown = [plan.step(index).synthetic for index in range(plan.num_steps)]
    assert sum(int(step_B.sum()) for step_B in shown) == IMAGES * 3 // 10
    return of_plan(plan)


def _check_record(run_id: str, pool) -> None:
    """What MLflow has of the pool."""
    job = jobs.load(jobs.find(run_id))
    assert (job.pool, job.pool_hash) == (pool.path, pool.hash)
    store = ensure_store(job.tracking_uri)
    run = store.get_run(run_id)
    assert run.data.tags["mien.synthetic_hash"] == pool.hash
    assert run.data.params["data.synthetic_share"] == "0.3"
    rates = pool.manifest.admission_rates
    assert rates
    for name, rate in rates.items():
        assert run.data.metrics[f"synthetic/admission_rate/{name}"] == pytest.approx(rate)
    assert run.data.metrics["synthetic/faces"] == len(pool)
    assert len(pool.refused)
    pictures = {one.path for one in store.list_artifacts(run_id)}
    assert pictures >= {"synthetic~admitted.png", "synthetic~refused.png"}

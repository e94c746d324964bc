"""A trial in a lane ends bit for bit as the same trial alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.home import runs_dir
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from trainer import catalog
from trainer.job import read_json
from trainer.launch import train_in_steps
from trainer.overrides import with_overrides
from tuning.objectives import objectives_of
from tuning.plan import Plan
from tuning.results import TrialRecord
from tuning.space import search_space
from tuning.study import Study
from tuning.trial import Setup, trial_run, work

RUN = with_overrides(
    catalog.recipe("fersnet.tiny"),
    {
        "system.images": 96,
        "system.network.dropout": 0.3,
        "system.identity_network": "random",
        "data.image_size": 32,
        "evaluation.every_images": 48,
        "logging.every_images": 16,
    },
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=40, options={"subjects": 9, "faces_per_subject": 16})
    return path


def searched(lake: Path, path: Path, lanes: int) -> tuple[TrialRecord, ...]:
    space = search_space(RUN, ["system.weights.classification=1:8:log"])
    objectives = objectives_of(catalog.load("fersnet"), ["macro_recall"])
    plan = Plan(
        name="lanes",
        distributions=space.distributions,
        own=space.own,
        objectives=objectives,
        num_folds=2,
        generation_size=3,
        seed=1,
        about={},
    )
    setup = Setup(
        run=trial_run(RUN),
        lake=lake,
        lake_hash=Lake.open(lake).hash,
        experiment="lanes",
        objectives=objectives,
        num_folds=2,
        lanes=lanes,
    )
    study = Study(path, plan, trials=3)
    try:
        work(study, 0, setup, train_in_steps, lambda trial: None)
        assert study.failure() is None
        return study.records()
    finally:
        study.close()


def test_weights_and_metrics_of_lanes_are_those_of_trials_alone(lake: Path, tmp_path: Path) -> None:
    alone = searched(lake, tmp_path / "alone.db", 1)
    together = searched(lake, tmp_path / "together.db", 3)
    assert [one.state for one in alone] == ["COMPLETE"] * 3
    assert len({tuple(one.params.values()) for one in alone}) == 3
    for left, right in zip(alone, together, strict=True):
        assert (left.params, left.values) == (right.params, right.values)
        for fold, of_left in left.folds.items():
            of_right = right.folds[fold]
            assert (of_left.curve, of_left.subjects) == (of_right.curve, of_right.subjects)
            runs = [runs_dir() / str(one.run_id) for one in (of_left, of_right)]
            assert runs[0] != runs[1]
            ledgers = [read_json(run / "result.json")["ledger"] for run in runs]
            assert ledgers[0] == ledgers[1]
            weights = [load_file(run / "weights.safetensors") for run in runs]
            assert weights[0].keys() == weights[1].keys()
            assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())

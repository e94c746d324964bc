"""A trial in a lane ends bit for bit as the same trial alone; in one pass, up to rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.home import runs_dir
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from tests.contract import batches as made_of
from trainer import catalog
from trainer.job import read_json
from trainer.launch import train_in_steps
from trainer.overrides import with_overrides
from trainer.training import DueStep
from tuning.fused import Fused
from tuning.objectives import objectives_of
from tuning.plan import Plan
from tuning.results import TrialRecord
from tuning.setup import Setup, trial_run
from tuning.space import search_space
from tuning.study import Study
from tuning.trial import work

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


def searched(
    lake: Path, path: Path, lanes: int, trials: int = 3, *, fused: bool = False
) -> tuple[TrialRecord, ...]:
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
        fused=fused,
    )
    study = Study(path, plan, trials=trials)
    try:
        work(study, 0, setup, train_in_steps, lambda trial: None)
        assert study.failure() is None
        return study.records()
    finally:
        study.close()


def ends_of(left: TrialRecord, right: TrialRecord) -> Iterator[list[dict[str, torch.Tensor]]]:
    """The final weights of both in every fold; the samples seen are the same."""
    assert (left.state, left.params) == ("COMPLETE", right.params)
    for fold, of_left in left.folds.items():
        runs = [runs_dir() / str(one.run_id) for one in (of_left, right.folds[fold])]
        assert runs[0] != runs[1]
        ledgers = [read_json(run / "result.json")["ledger"] for run in runs]
        assert ledgers[0] == ledgers[1]
        yield [load_file(run / "weights.safetensors") for run in runs]


def test_lanes_end_as_trials_alone(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turns bit for bit; in one pass within what 12 steps make of rounding."""
    taken: list[int] = []
    take = Fused.__call__

    def counting(fused: Fused, steps: Sequence[DueStep]) -> Sequence[DueStep]:
        waiting = take(fused, steps)
        taken.append(sum(step.found is not None for step in steps))
        return waiting

    monkeypatch.setattr(Fused, "__call__", counting)
    alone = searched(lake, tmp_path / "alone.db", 1)
    in_turns = searched(lake, tmp_path / "turns.db", 3)
    assert not taken and len({tuple(one.params.values()) for one in alone}) == 3
    in_one_pass = searched(lake, tmp_path / "pass.db", 2, fused=True)
    assert set(taken) == {0, 2} and taken.count(2) >= 4, "the second trial begins a little later"
    for left, right, third in zip(alone, in_turns, in_one_pass, strict=True):
        assert left.values == right.values
        for fold, of_left in left.folds.items():
            of_right = right.folds[fold]
            assert (of_left.curve, of_left.subjects) == (of_right.curve, of_right.subjects)
        assert all(made_of.equal(*pair) for pair in ends_of(left, right))
        assert all(made_of.distance(*pair) < 0.02 for pair in ends_of(left, third))

"""The best weights belong to the checkpoint that a run goes on from, or are given up."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data_service.ingest import ingest
from tests.made_runs import killed_run
from trainer import between, catalog, checkpoint, conclude, launch, session
from trainer.overrides import with_overrides
from trainer.world import World

RUN = with_overrides(
    catalog.recipe("baseline.tiny"),
    {
        "system.images": 160,
        "data.global_batch_images": 32,
        "evaluation.every_images": 32,
        "evaluation.select": "accuracy",
        "checkpoint.every_steps": 2,
    },
)
TRAINING: Any = SimpleNamespace(
    players={}, system=SimpleNamespace(state_dict=lambda: {"a": torch.zeros(2)})
)


def resumed(directory: Path, best_images: int) -> Any:
    """What is left of the best figure of a session at a checkpoint with its best at `images`."""
    job = SimpleNamespace(directory=directory)
    own: Any = SimpleNamespace(job=job, world=World.alone(), best=0.5, best_images=best_images)
    session._give_up_other_weights(own)
    return own.best


def test_they_stay_only_where_they_are_of_the_checkpoint(tmp_path: Path) -> None:
    best = tmp_path / "best.safetensors"
    assert resumed(tmp_path, 64) == 0.5, "there are none"
    checkpoint.write_weights(best, TRAINING, images=64)
    assert checkpoint.images_of(best) == 64
    assert resumed(tmp_path, 64) == 0.5 and best.exists()
    assert resumed(tmp_path, 32) == -math.inf and not best.exists()


def test_files_of_older_runs_stay(tmp_path: Path) -> None:
    best = tmp_path / "best.safetensors"
    checkpoint.write_weights(best, TRAINING)
    assert checkpoint.images_of(best) is None
    assert resumed(tmp_path, 32) == 0.5 and best.exists()


class ReachedError(Exception):
    """Nothing after it is asked for."""


@pytest.mark.parametrize("there", [True, False])
def test_rank_0_says_whether_there_are_any(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads(path: Path, training: object) -> None:
        raise ReachedError(path.name)

    def validates(*_: object) -> None:
        raise ReachedError("the last weights")

    monkeypatch.setattr(checkpoint, "read_weights", reads)
    monkeypatch.setattr(conclude, "validation_predictions", validates)
    if not there:
        (tmp_path / "best.safetensors").touch()
    own: Any = SimpleNamespace(
        job=SimpleNamespace(directory=tmp_path, run=RUN),
        world=SimpleNamespace(broadcast_object=lambda own: there),
        **dict.fromkeys(("training", "spec", "data", "lake")),
    )
    with pytest.raises(ReachedError, match="best" if there else "the last"):
        conclude._final(own)


def test_weights_of_steps_that_were_thrown_away_are_not_tested(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its best validation and a checkpoint; the same steps are worse next time."""
    lake = tmp_path / "lake"
    ingest("drawn", None, lake, image_size=48, options={"subjects": 6, "faces_per_subject": 8})
    accuracies = iter((0.5, 0.4, 0.9, 0.3, 0.4, 0.2))
    monkeypatch.setattr(between, "validation_metrics", lambda *_: {"accuracy": next(accuracies)})
    (own_home / "runs").mkdir(parents=True)
    killed = killed_run(RUN, lake, monkeypatch, step=3, fold="1/3")
    assert checkpoint.images_of(killed / "best.safetensors") == 96
    launch.train(RUN, lake, resume=killed.name)
    assert checkpoint.images_of(killed / "best.safetensors") == 128

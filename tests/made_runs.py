"""Runs as if they had been trained, with fresh weights; and judges that learn next to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cluster.home import tracking_uri
from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo
from trainer import catalog, feed, job, launch, work
from trainer.config import RunConfig
from trainer.overrides import with_overrides
from trainer.scorecard import gain, judge
from trainer.session import Session
from trainer.training import StepResult


def self_contained(recipe: str) -> RunConfig:
    """The recipe, where its identity network is no run but random."""
    run = catalog.recipe(recipe)
    named = hasattr(run.system, "identity_network")
    return with_overrides(run, {"system.identity_network": "random"} if named else {})


def recorded(run: RunConfig, run_id: str = "aaaa", **about: Any) -> job.Job:
    """A run of this home that has begun: its run.json, with what a test has to say `about` it."""
    directory = job.runs_dir() / run_id
    made = job.Job(
        **{
            "run_id": run_id,
            "directory": directory,
            "run": run,
            "lake": directory / "lake",
            "lake_hash": "none",
            "face_pixels": run.data.image_size + 8,
            "fold": "1/3",
            "tracking_uri": tracking_uri(),
            "experiment": "test",
            **about,
        }
    )
    job.save(made)
    return made


def finished(run: RunConfig, info: DatasetInfo, run_id: str = "aaaa", **about: Any) -> Path:
    """The directory of a run of this home that has weights."""
    directory = recorded(run, run_id, **about).directory
    job.write_info(directory, info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        system = catalog.spec_of(run).build(run.system, info)
    tensors = {
        f"player/{player.name}/{key}": value.contiguous()
        for player in system.players()
        for key, value in player.module.state_dict().items()
    }
    tensors |= {f"system/{key}": value for key, value in system.state_dict().items()}
    save_file(tensors, directory / "weights.safetensors")
    return directory


def finished_on(
    lake: Path, run: RunConfig, run_id: str = "aaaa", *, fold: str = "1/3", **about: Any
) -> Path:
    """The directory of such a run, built for a fold of the lake."""
    opened = Lake.open(lake)
    info = feed.prepare(run, catalog.spec_of(run), opened, fold).info
    own = {"lake": lake, "lake_hash": opened.hash, "face_pixels": opened.manifest.image_size}
    return finished(run, info, run_id, **{**own, "fold": fold, **about})


def shorten_judges(monkeypatch: pytest.MonkeyPatch, most_images: int) -> None:
    """Judges learn from at most so many images."""
    train = judge.train_judge

    def brief(*args: Any, **options: Any) -> judge.Judge:
        asked = options.get("images", most_images)
        return train(*args, **{**options, "images": min(asked, most_images)})

    for module in (judge, gain):
        monkeypatch.setattr(module, "train_judge", brief)


def killed_run(
    run: RunConfig, lake: Path, patch: pytest.MonkeyPatch, *, step: int, **given: Any
) -> Path:
    """The folder of a run that has died in that step, with the checkpoints that were written."""
    after_step = work.after_step

    def dies(state: Session, result: StepResult) -> None:
        after_step(state, result)
        if state.training.progress.step == step:
            assert state.writer is not None
            state.writer.wait()
            raise KeyboardInterrupt

    before = set(job.runs_dir().iterdir())
    with patch.context() as inner:
        inner.setattr(work, "after_step", dies)
        with pytest.raises(KeyboardInterrupt):
            launch.train(run, lake, **given)
    (killed,) = set(job.runs_dir().iterdir()) - before
    assert list((killed / "checkpoints").iterdir())
    return killed

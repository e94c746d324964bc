"""What a run's weights come from, and that it has not seen who is to be tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_service.folds import Fold, named_split, subject_keys
from data_service.lake import Lake
from data_service.pool import SealedPool
from trainer import job as jobs
from trainer.job import Job


def first_weights(init: str, lake_hash: str, fold: str | None) -> Path:
    """The weights that `init`, a run or a file of weights, stands for.

    ValueError when there are none, or when that run, or one that it learnt from in turn, was
    trained on the same lake in another fold than `fold`: its training subjects are tested here.
    A file outside of a run tells nothing of its past; whoever names it answers for it.
    """
    weights = _weights(init)
    for ancestor in _line(weights):
        if ancestor.lake_hash == lake_hash and ancestor.fold != fold:
            raise ValueError(
                f"run {ancestor.run_id} was trained on this very lake in fold {ancestor.fold}, on "
                "subjects that are to be tested now; start from a run of another lake"
                + (f" or of fold {fold}" if fold else "")
            )
    return weights


def require_unseen(weights: Path, lake: Lake, fold: Fold, name: str) -> None:
    """ValueError where a run that these weights come from learnt of subjects that are held out.

    Those are whom the division `fold` of the lake, called `name`, validates or tests on. The run is
    the one that trained the weights, or one that it learnt from, by its first weights, its identity
    network, or the faces of its pool.
    """
    keys = subject_keys(lake.table)
    held_out = np.concatenate([fold.validation_rows, fold.test_rows])
    for ancestor in _line(weights):
        if ancestor.lake_hash != lake.hash:
            continue
        classes = jobs.classes_of(ancestor.run, lake.manifest.classes)
        own = named_split(lake.table, ancestor.fold, classes or None)
        seen = np.intersect1d(keys[own.train_rows], keys[held_out])
        if len(seen):
            raise ValueError(
                f"run {ancestor.run_id} was trained, in fold {ancestor.fold}, on {len(seen)} of "
                f"the subjects that fold {name} of {lake.path} validates or tests on"
            )


def _weights(init: str) -> Path:
    if init.endswith(".safetensors"):
        if not Path(init).is_file():
            raise ValueError(f"there is no file {init} to start from")
        return Path(init).absolute()
    directory = jobs.find(init)
    weights = directory / "weights.safetensors"
    if not weights.is_file():
        raise ValueError(f"run {directory.name} has no finished weights to start from")
    return weights


def _line(weights: Path) -> Iterator[Job]:
    """The run whose weights these are, those that it learnt from, and so on."""
    if (weights.parent / "run.json").is_file():
        run = jobs.load(weights.parent)
        yield run
        for teacher in _teachers(run):
            yield from _line(teacher)


def _teachers(run: Job) -> Iterator[Path]:
    """The weights that the run started from, its identity network's, its pool's generator's.

    What is gone by now tells nothing.
    """
    if run.init is not None:
        yield run.init
    if named := getattr(run.run.system, "identity_network", ""):
        with suppress(ValueError):
            yield _weights(named)
    if run.pool is not None:
        with suppress(ValueError):
            yield _weights(SealedPool.open(run.pool).manifest.run)

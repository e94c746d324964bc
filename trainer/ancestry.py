"""Where a run's first weights come from, and that they have not seen who is to be tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainer import job as jobs
from trainer.job import Job


def first_weights(init: str, lake_hash: str, fold: str | None) -> Path:
    """The weights that `init`, a run or a file of weights, stands for.

    ValueError when there are none, or when that run, or one that it started from in turn, was
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


def _line(weights: Path | None) -> Iterator[Job]:
    """The run whose weights these are, the one that it started from, and so on."""
    while weights is not None and (weights.parent / "run.json").is_file():
        run = jobs.load(weights.parent)
        yield run
        weights = run.init

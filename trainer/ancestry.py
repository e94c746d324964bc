"""What a run's weights come from, and that it has not seen who is to be tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_service.folds import Fold, named_split, subject_keys
from data_service.lakes.lake import Lake
from data_service.synthesis.live_pool import open_pool
from trainer import job as jobs
from trainer.config import NAMES_RUN, RunConfig
from trainer.job import Job


def first_weights(init: str) -> Path:
    """The weights that `init`, a run or a file of weights, stands for; ValueError without any."""
    if init.endswith(".safetensors"):
        if not Path(init).is_file():
            raise ValueError(f"there is no file {init} to start from")
        return Path(init).absolute()
    directory = jobs.find(init)
    weights = directory / "weights.safetensors"
    if not weights.is_file():
        raise ValueError(f"run {directory.name} has no finished weights to start from")
    return weights


def name_of(weights: Path) -> str:
    """What first weights are known by: the run that they are of, or their file."""
    run = _run_around(weights)
    return str(weights) if run is None else run.name


def check_unseen(
    run: RunConfig,
    weights: Path | None,
    lake: Lake,
    folds: Mapping[str, Fold],
    *,
    generator: str | None = None,
) -> dict[str, str]:
    """ValueError where what `run` uses was trained on subjects that one of `folds` of `lake` tests.

    That is the run whose `weights` it starts from, every run that its settings name, the
    `generator` of its synthetic faces, and those that they learnt from in turn. Validation
    subjects, who chose the weights, count as trained on. A subject is known by the `sample_id` of
    its faces, which hashes a file's bytes and its name below the source: the same photographs in
    another lake count too, at whatever size that keeps them.
    Not known again are files under other names, and faces that were drawn at another size, which
    are other pictures. What cannot be looked into stands in the tag that is returned.
    """
    used, lost = [*_named(run), *([] if weights is None else [weights])], ""
    try:
        used += [first_weights(generator)] if generator else []
    except ValueError:
        lost = f"the generator, run {generator}, which is gone"
    subject_N = subject_keys(lake.table) if used else np.empty(0)
    for ancestor in _line(used):
        learnt = subject_N[_learnt_rows(ancestor, lake)]
        for name, fold in folds.items():
            seen = np.intersect1d(learnt, _only_tested(subject_N, fold))
            if len(seen):
                raise ValueError(
                    f"run {ancestor.run_id} was trained on {_same(ancestor, lake)} in fold "
                    f"{ancestor.fold}, on {len(seen)} of the subjects that fold {name} tests, "
                    f"such as {seen[0]}; take a run of other people, or of the same fold"
                )
    unknown = [one for one in (unchecked(used, lake), lost) if one]
    return {"mien.unchecked": "; ".join(unknown)} if unknown else {}


def unchecked(used: Sequence[Path], lake: Lake) -> str:
    """What of the past of these weights cannot be looked into; empty where all can.

    A file of weights outside of a run tells nothing, nor does a run whose lake is gone.
    """
    strangers = [path for path in used if _run_around(path) is None]
    gone = []
    for ancestor in _line(used):
        strangers += [path for path in _teachers(ancestor) if _run_around(path) is None]
        if _lake_of(ancestor, lake) is None:
            gone.append(f"run {ancestor.run_id}, whose lake {ancestor.lake} is gone")
    return "; ".join(dict.fromkeys([*map(str, strangers), *gone]))


def require_unseen(weights: Path, lake: Lake, fold: Fold, name: str) -> None:
    """ValueError where a run that these weights come from learnt of subjects that are held out.

    Those are whom the division `fold` of the lake, called `name`, validates or tests on. The run is
    the one that trained the weights, or one that it learnt from, by its first weights, its identity
    network, or the faces of its pool. What cannot be looked into is for `unchecked` to tell.
    """
    keys = subject_keys(lake.table)
    held_out = np.concatenate([fold.validation_rows, fold.test_rows])
    for ancestor in _line([weights]):
        seen = np.intersect1d(keys[_learnt_rows(ancestor, lake, chosen=False)], keys[held_out])
        if len(seen):
            raise ValueError(
                f"run {ancestor.run_id} was trained, in fold {ancestor.fold}, on {len(seen)} of "
                f"the subjects that fold {name} of {lake.path} validates or tests on"
            )


def unseen_rows(weights: Path, lake: Lake, rows_N: np.ndarray) -> np.ndarray:
    """Those of the rows whose subjects no run in the line of these weights has learnt from."""
    keys = subject_keys(lake.table)
    seen = [keys[_learnt_rows(ancestor, lake)] for ancestor in _line([weights])]
    return rows_N[~np.isin(keys[rows_N], np.concatenate([np.empty(0, keys.dtype), *seen]))]


def _learnt_rows(run: Job, lake: Lake, *, chosen: bool = True) -> np.ndarray:
    """The rows of `lake` that the run was trained on, and those that chose its weights (`chosen`).

    Rows of another lake are the same where their `sample_id` is. A lake that is gone tells nothing.
    """
    own = _lake_of(run, lake)
    if own is None:
        return np.empty(0, np.int64)
    classes = jobs.classes_of(run.run, own.manifest.classes)
    fold = named_split(own.table, run.fold, classes or None)
    rows = np.concatenate([fold.train_rows, fold.validation_rows]) if chosen else fold.train_rows
    if own is lake:
        return np.asarray(rows)
    known = set(own.table["sample_id"].take(rows).to_pylist())
    return np.flatnonzero([one in known for one in lake.table["sample_id"].to_pylist()])


def _lake_of(run: Job, lake: Lake) -> Lake | None:
    """The lake that the run was trained on, which may be `lake`; None where it is no longer."""
    if run.lake_hash == lake.hash:
        return lake
    try:
        own = Lake.open(run.lake)
    except (OSError, ValueError):
        return None
    return own if own.hash == run.lake_hash else None


def _same(run: Job, lake: Lake) -> str:
    if run.lake_hash == lake.hash:
        return "this very lake"
    return f"the same photographs, in {run.lake},"


def _only_tested(subject_N: np.ndarray, fold: Fold) -> np.ndarray:
    """Whom the fold tests, without those that it trains on too: `leak_tags` tells of them."""
    own = np.concatenate([fold.train_rows, fold.validation_rows])
    return np.setdiff1d(subject_N[fold.test_rows], subject_N[own])


def _line(weights: Sequence[Path]) -> Iterator[Job]:
    """The runs whose weights these are, those that they learnt from, and so on, each once."""
    waiting, known = list(weights), set()
    while waiting:
        directory = _run_around(waiting.pop())
        if directory is None or directory in known:
            continue
        known.add(directory)
        run = jobs.load(directory)
        yield run
        waiting += _teachers(run)


def _run_around(weights: Path) -> Path | None:
    """The run in whose directory, or among whose checkpoints, the weights lie."""
    around = weights.resolve().parents[:3]
    return next((path for path in around if (path / "run.json").is_file()), None)


def _teachers(run: Job) -> Iterator[Path]:
    """The weights that the run started from, those that its settings name, its pool's generator's.

    What is gone by now tells nothing.
    """
    if run.init is not None:
        yield run.init
    yield from _named(run.run)
    if run.pool is not None:
        with suppress(ValueError):
            yield first_weights(open_pool(run.pool).manifest.run)
    if run.live:
        with suppress(ValueError):
            yield first_weights(run.live)


def _named(run: RunConfig) -> Iterator[Path]:
    """Weights that the settings of the system name; what is no run is for the system to refuse."""
    for item in dataclasses.fields(run.system):
        source = getattr(run.system, item.name) if item.metadata.get(NAMES_RUN) else ""
        if source and Path(source).is_file():
            yield Path(source)
        elif source:
            with suppress(ValueError):
                yield first_weights(source)

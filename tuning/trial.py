"""What a slot does: pull a setting, train its folds on validation subjects, say how it went."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from cluster.interrupt import interrupt
from cluster.lock import BusyError
from trainer.config import RunConfig
from trainer.scorecard.evaluate import read_predictions
from trainer.steps import Steps
from trainer.tracking.tracker import TrackingError
from tuning.fused import Fused, LostStepError
from tuning.lanes import POLL_SECONDS, Company, Lane, take_turns
from tuning.objectives import SPEED, measured
from tuning.pruning import PAIRED
from tuning.results import FINAL, Cells, FoldRecord, State, TrialRecord
from tuning.setup import Setup
from tuning.space import with_setting
from tuning.trial_runs import (
    begun_run,
    close_left,
    close_runs,
    close_trial_run,
    create_trial_run,
    tracker_of,
)

LOG = logging.getLogger(__name__)

Train = Callable[..., Steps[Any]]
"""`trainer.launch.train_in_steps`, or what a test puts in its place."""

STOP_POLL_SECONDS = 1.0
BUSY_SECONDS = 30.0
"""Between two attempts at a run that a process on a host behind a lost link may still hold."""


class Ledger(Protocol):
    """What a slot needs of `tuning.study.Study`, wherever that lives."""

    def pull(self, slot: int) -> TrialRecord | Literal["wait"] | None: ...
    def set_trial_run(self, number: int, run_id: str) -> None: ...
    def observe(self, number: int, fold: int, images: int, value: float) -> bool: ...
    def end_fold(self, number: int, fold: int, done: FoldRecord) -> bool: ...
    def finish(self, number: int, state: State, error: str | None = None) -> TrialRecord | None: ...
    def give_back(self, number: int, error: str | None = None) -> None: ...
    def ran_out_of_memory(self, number: int) -> TrialRecord | None: ...
    def is_stopping(self) -> bool: ...
    def stop(self) -> None: ...


def work(
    ledger: Ledger, slot: int, setup: Setup, train: Train, report: Callable[[TrialRecord], None]
) -> None:
    """Evaluate settings until the ledger has no more; `report` hears of each that has an end."""
    company = Company()

    def lane() -> Lane:
        while True:
            while not company.has_room():
                yield "wait"
            task = ledger.pull(slot)
            if task is None:
                return
            if task == "wait":
                yield from _pause(POLL_SECONDS)
                continue
            if task.state in FINAL:
                close_runs(task)
                report(task)
                continue
            try:
                done = yield from company.joined(task.number, evaluate(ledger, task, setup, train))
            except BusyError as error:
                LOG.warning("%s; it is tried again in %.0f s", error, BUSY_SECONDS)
                yield from _pause(BUSY_SECONDS)
                continue
            if done is not None:
                report(done)

    with _stopping_when_asked(ledger):
        take_turns([lane() for _ in range(setup.lanes)], Fused() if setup.fused else None)


def _pause(seconds: float) -> Iterator[Literal["wait"]]:
    """Wait once at least, and so long."""
    until = time.monotonic() + seconds
    yield "wait"
    while time.monotonic() < until:
        yield "wait"


def evaluate(
    ledger: Ledger, task: TrialRecord, setup: Setup, train: Train
) -> Steps[TrialRecord | None]:
    """Train what is left of a trial and tell the ledger its end; None where it was stopped.

    A run that is stopped stops the search, which else would go on with that run at once. An error
    is the trial's own, except for what would meet every other: a ValueError of trial 0, the run's
    own setting; MLflow out of reach, or a disk that refuses. It ends the search, which can go on
    with it. One of the accelerator ends this process, which could train nothing more. BusyError
    where another process still trains a run of the setting, which is given back.
    """
    tracker, done, has_memory, lost, busy = None, None, True, False, None
    was_begun = task.run_id is not None
    if task.same_as is not None:
        LOG.warning("trial %d equals trial %d and takes its result", task.number, task.same_as)
    try:
        if setup.study_run is not None:
            if task.run_id is None:
                task = replace(task, run_id=create_trial_run(task, setup))
                ledger.set_trial_run(task.number, str(task.run_id))
            tracker = tracker_of(task)
        state = yield from _train_folds(ledger, task, setup, train, was_begun=was_begun)
    except (MemoryError, torch.OutOfMemoryError):
        has_memory = False
    except LostStepError:
        lost = True
    except torch.AcceleratorError:
        raise
    except (TrackingError, OSError) as error:
        ledger.give_back(task.number, f"{error}; nothing is lost: --resume goes on")
    except BusyError as error:
        busy = error
        ledger.give_back(task.number)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if task.number == 0 and isinstance(error, ValueError):
            ledger.give_back(task.number, str(error))
        else:
            done = ledger.finish(task.number, "FAIL", reason)
    else:
        if state is None:
            ledger.stop()
            ledger.give_back(task.number)
        done = ledger.finish(task.number, state) if state else None
    if lost or not has_memory:  # the error is gone, and with it the frames that held the tensors
        gc.collect()
        torch.cuda.empty_cache()
    if lost:
        ledger.give_back(task.number)
    elif not has_memory:
        done = ledger.ran_out_of_memory(task.number)
    if tracker is not None:
        close_trial_run(tracker, done)
        if was_begun and done is not None:
            close_left(done)
    if busy is not None:
        raise busy
    return done


def _train_folds(
    ledger: Ledger, task: TrialRecord, setup: Setup, train: Train, *, was_begun: bool
) -> Steps[Literal["COMPLETE", "PRUNED"] | None]:
    run = with_setting(setup.run, task.params)
    for fold in range(1, setup.num_folds + 1):
        if fold in task.finished_folds:
            continue
        began = time.monotonic()
        result = yield from train(
            run,
            setup.lake,
            fold=setup.fold(fold),
            experiment=setup.experiment,
            name=f"trial {task.number} fold {fold}",
            parent=task.run_id,
            resume=_unfinished(task, run, fold, setup) if was_begun else None,
            on_validation=_watch(ledger, task.number, fold, setup.objectives[0].name),
            validation_only=True,
            allow_leaks=setup.leaks != "none",
        )
        done = FoldRecord(run_id=result.run_id, seconds=time.monotonic() - began)
        if result.status == "finished":
            done = replace(
                done,
                values=measured(setup.objectives, result.validation, result.images_per_second),
                subjects=subjects_of(result.directory, setup.objectives[0].name),
            )
        worse = ledger.end_fold(task.number, fold, done)
        if result.status == "stopped":
            return None
        if worse or result.status == "pruned":
            return "PRUNED"
    return "COMPLETE"


def subjects_of(directory: Path, objective: str) -> dict[str, Cells]:
    """How each validation subject was recognised, where the objective is one of recognition."""
    kept = directory / "validation.npz"
    if objective not in PAIRED or not kept.is_file():
        return {}
    predictions = read_predictions(kept)
    counts_SKK = predictions.confusions()
    names = np.unique(predictions.subjects).tolist()
    return {
        name: tuple((int(i), int(j), int(counts_KK[i, j])) for i, j in np.argwhere(counts_KK))
        for name, counts_KK in zip(names, counts_SKK, strict=True)
    }


def _watch(
    ledger: Ledger, number: int, fold: int, metric: str
) -> Callable[[int, Mapping[str, float]], bool]:
    """The learning curve of one training, as `trainer.launch` hands it out."""

    def on_validation(images: int, metrics: Mapping[str, float]) -> bool:
        return metric in metrics and ledger.observe(number, fold, images, float(metrics[metric]))

    return on_validation


def _unfinished(task: TrialRecord, run: RunConfig, fold: int, setup: Setup) -> str | None:
    """The run that an earlier attempt of this trial left in the fold: it goes on, bit for bit.

    Not where speed is an objective: a part of a run does not tell it.
    """
    if any(item.name == SPEED for item in setup.objectives):
        return None
    return begun_run(task.run_id, run, setup.fold(fold) if setup.num_folds > 1 else None)


@contextmanager
def _stopping_when_asked(ledger: Ledger) -> Iterator[None]:
    """A thread that stops this process' training once the search is to stop."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(STOP_POLL_SECONDS):
            if ledger.is_stopping():
                interrupt()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""One fault in one run: when it strikes, what it costs, and what does not hold afterwards."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.chaos import commands, invariants
from benchmarks.chaos.faults import FAULTS, Fault
from benchmarks.chaos.trial import GIVE_UP_SECONDS, Told, Trial, lives


class StoodStillError(RuntimeError):
    """The machine was stopped or asleep for a while, so that times say nothing."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a fault did to one run; `broken` names the invariants that did not hold.

    `busy` is the machine's load (over its cores) when the run began.
    """

    fault: str
    seed: int
    step: int
    busy: float
    detection_seconds: float | None = None
    recovery_seconds: float | None = None
    repeated_steps: int = 0
    repeated_seconds: float = 0.0
    wall_seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class References:
    """The lake, and runs that nothing happened to, made when they are first asked for."""

    folder: Path

    @property
    def lake(self) -> Path:
        """Few drawn faces."""
        return commands.make_lake(self.folder / "lake")

    @property
    def generator(self) -> Path:
        """The run that makes the faces of pools."""
        home = self.folder / "generator"
        return _only_run(self._made(home, lambda: commands.generator(home, self.lake)))

    def home_of(self, fault: Fault) -> Path:
        """The home of the run, search or pool that a fault's is compared to."""
        what = f"{fault.workers}-workers" if fault.task == "training" else fault.task
        home = self.folder / f"undisturbed-{what}-{fault.steps}"
        return self._made(home, lambda: self.new_trial(fault, home))

    def _made(self, home: Path, new: Callable[[], Trial]) -> Path:
        if not (home / "whole").exists():
            shutil.rmtree(home, ignore_errors=True)
            trial = new()
            trial.start()
            if trial.finish():
                raise RuntimeError(f"the undisturbed run failed: {trial.errors}")
            (home / "whole").touch()
        return home

    def new_trial(self, fault: Fault, home: Path) -> Trial:
        """What the fault will be done to, not yet started."""
        if fault.task == "pool":
            return commands.pool(home, self.lake, self.generator)
        if fault.task == "search":
            return commands.search(home, self.lake, fault.steps)
        return commands.training(home, self.lake, fault.workers, fault.steps)


def _only_run(home: Path) -> Path:
    return next((home / "runs").iterdir())


def run_fault(name: str, seed: int, references: References, home: Path) -> Outcome:
    """One run with one fault at a step that the seed chooses, held against an undisturbed one."""
    fault, chance = FAULTS[name], random.Random(f"{name}/{seed}")
    reference = references.home_of(fault)
    trial = references.new_trial(fault, home)
    outcome = Outcome(
        fault=name,
        seed=seed,
        step=fault.choose(trial, chance),
        busy=round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
    )
    with fault.around(trial):
        _disturb(fault, trial, chance, outcome)
        trial.looked = None
        if not outcome.broken:
            outcome.broken = _compare(fault, trial, reference)
    return outcome


def _disturb(fault: Fault, trial: Trial, chance: random.Random, outcome: Outcome) -> None:
    """The trial from its start to its end, with the fault in it."""
    began = time.monotonic()
    hurt: Collection[psutil.Process] = ()
    trial.start()
    try:
        trial.wait_for_step(outcome.step)
        before, at = trial.told[-1], time.time()
        hurt = fault.act(trial, chance)
        if hurt:
            outcome.detection_seconds = _until_gone(trial, hurt) - at
        code = trial.finish()
    finally:
        trial.end()
        for process in filter(lives, hurt):
            process.kill()
    if trial.stood_still_seconds:
        raise StoodStillError(f"nothing ran for {trial.stood_still_seconds:.1f} s")
    outcome.wall_seconds = time.monotonic() - began
    measure(outcome, trial, before, at)
    if code:
        outcome.broken = [f"exit code {code}: {trial.errors.strip().splitlines()[-1]}"]


def _compare(fault: Fault, trial: Trial, reference: Path) -> list[str]:
    if fault.task == "pool":
        return invariants.broken_by_filling(trial.home / "pool", reference / "pool")
    if fault.task == "search":
        return invariants.broken_by_search(trial.home, reference)
    assert trial.folder is not None
    return invariants.broken_by_training(trial.folder, _only_run(reference))


def _until_gone(trial: Trial, hurt: Collection[psutil.Process]) -> float:
    """When the last of the hurt processes has gone (seconds since 1970)."""
    end = time.monotonic() + GIVE_UP_SECONDS
    while any(lives(process) for process in hurt):
        if time.monotonic() > end:
            raise RuntimeError("the hurt processes were not noticed")
        trial.look()
    return time.time()


def measure(outcome: Outcome, trial: Trial, before: Told, at: float) -> None:
    """From the first step after the fault: that of another process than before, if there is one.

    `before` is the last step before the fault, which struck at the time `at` (seconds since 1970).
    """
    later = [told for told in trial.told if told.time > at]
    after = next((told for told in later if told.attempt != before.attempt), None)
    if after is None:
        outcome.recovery_seconds = later[0].time - at if later else None
        return
    seen = [told for told in trial.told if told.attempt == before.attempt]
    last = seen[-1]
    outcome.recovery_seconds = after.time - at
    outcome.repeated_steps = max(last.step - after.step + 1, 0)
    from_there = next((told for told in seen if told.step >= after.step - 1), last)
    outcome.repeated_seconds = last.time - from_there.time

"""What is done to a trial. Each fault gives the processes that it hurt, which are to be gone."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import psutil

from benchmarks.chaos import disk, servers
from benchmarks.chaos.commands import LONG, PARTS, STEPS, TRIALS
from benchmarks.chaos.trial import Trial

Hurt = Sequence[psutil.Process]
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What is done, to what: a training of `steps` on `workers`, a search, or a pool's filling.

    `around` holds during the whole trial, such as a server that it tracks through.
    """

    act: Callable[[Trial, random.Random], Hurt]
    workers: int = 1
    steps: int = STEPS
    task: Literal["training", "search", "pool"] = "training"
    around: Callable[[Trial], AbstractContextManager[None]] = lambda trial: nullcontext()

    def choose(self, trial: Trial, chance: random.Random) -> int:
        """The step (of a pool, the batch) after which it strikes; of a search, also which trial."""
        if self.task == "pool":
            return chance.randrange(2, PARTS)
        if self.task == "search":
            trial.watched = chance.randrange(TRIALS)
        return chance.randrange(STEPS // 6, STEPS // 2)


def _workers(trial: Trial) -> list[psutil.Process]:
    """Ray Train's workers, rank 0 (which writes the status file) first."""
    leader = trial.told[-1].process
    return sorted(trial.family("RayTrainWorker"), key=lambda process: process.pid != leader)


def _at_work(trial: Trial) -> list[psutil.Process]:
    """All that the driver started, but for the two agents of Ray's node.

    These see at once that their node is dead, then tell it to its head, which is gone too, until
    Ray's own limit of 60 s for that. They hold nothing meanwhile, and do nothing.
    """
    agents = {process.pid for name in _AGENTS for process in trial.family(name)}
    return [process for process in trial.family() if process.pid not in agents]


def kill_worker(trial: Trial, chance: random.Random) -> Hurt:
    """SIGKILL of the worker of rank 1."""
    workers = _workers(trial)
    workers[-1].kill()
    return workers


def kill_rank_0(trial: Trial, chance: random.Random) -> Hurt:
    """SIGKILL of rank 0, which writes checkpoints and tells MLflow."""
    workers = _workers(trial)
    workers[0].kill()
    return workers


def stop_worker(trial: Trial, chance: random.Random) -> Hurt:
    """SIGSTOP of the worker of rank 1: it neither dies nor answers."""
    workers = _workers(trial)
    workers[-1].send_signal(signal.SIGSTOP)
    return workers


def kill_stream_actor(trial: Trial, chance: random.Random) -> Hurt:
    """SIGKILL of a process that prepares batches; Ray Data starts another for it.

    A short run would have all of its batches ready before it could be hurt.
    """
    chosen = chance.choice(trial.family("MapWorker"))
    chosen.kill()
    return [chosen]


def kill_synthesis_actor(trial: Trial, chance: random.Random) -> Hurt:
    """SIGKILL of a process that makes synthetic faces; Ray starts another for it."""
    chosen = chance.choice(trial.family("ray::_Actor"))
    chosen.kill()
    return [chosen]


def kill_head(trial: Trial, chance: random.Random) -> Hurt:
    """SIGKILL of the head of the run's Ray: driver and workers must end. Then --resume."""
    assert trial.driver is not None
    orphans = _at_work(trial)
    for process in (*trial.family("/gcs_server "), *trial.family("/raylet ")):
        process.kill()
    trial.finish()
    trial.resume()
    return orphans


def kill_driver(trial: Trial, chance: random.Random) -> Hurt:
    """SIGKILL of the driver alone; what it started must end by itself. Then --resume, at once."""
    assert trial.driver is not None
    orphans = _at_work(trial)
    trial.driver.kill()
    trial.driver.wait()
    trial.resume()
    return orphans


def tear_checkpoint(trial: Trial, chance: random.Random) -> Hurt:
    """As kill_driver, and the newest checkpoint loses its second half."""
    assert trial.driver is not None
    trial.driver.kill()
    trial.driver.wait()
    state = trial.checkpoints()[-1] / "state.safetensors"
    os.truncate(state, state.stat().st_size // 2)
    trial.resume()
    return []


def jump_clock(trial: Trial, chance: random.Random) -> Hurt:
    """The clock of the training process jumps by days."""
    days = chance.choice((-400, -1, 1, 400))
    trial.clock_file.write_text(str(days * 86400))
    return []


FAULTS: dict[str, Fault] = {
    "worker killed": Fault(act=kill_worker, workers=2),
    "rank 0 killed": Fault(act=kill_rank_0, workers=2),
    "stream actor killed": Fault(act=kill_stream_actor, workers=2, steps=3 * LONG),
    "worker stopped": Fault(act=stop_worker, workers=2),
    "synthesis actor killed": Fault(act=kill_synthesis_actor, task="pool"),
    "head killed": Fault(act=kill_head, workers=2),
    "driver killed": Fault(act=kill_driver),
    "driver of two workers killed": Fault(act=kill_driver, workers=2),
    "search's driver killed": Fault(act=kill_driver, task="search"),
    "MLflow server killed": Fault(act=servers.kill_mlflow, steps=LONG, around=servers.mlflow),
    "PostgreSQL killed": Fault(act=servers.kill_postgres, steps=LONG, around=servers.postgres),
    "disk full": Fault(act=disk.fill, steps=LONG, around=disk.small),
    "checkpoint torn": Fault(act=tear_checkpoint),
    "clock jumps": Fault(act=jump_clock),
}

"""Ray Tune holds the slots: their resources, their restarts, word of each trial that has an end.

Each slot is one long-lived process that pulls setting after setting from the study's ledger, so
that imports are paid for once. Tune sees a slot as one trial of its own. What was found lives in
the study alone; Tune's own directory is thrown away.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.interrupt import on_interrupt
from cluster.resources import Share
from tuning.databases import GOES_ON, StudyStoreError, Where, store_errors_told
from tuning.plan import Plan
from tuning.results import FoldRecord, State, TrialRecord
from tuning.setup import Setup
from tuning.studies import studies_dir
from tuning.study import Study
from tuning.trial import Train, work
from tuning.trial_runs import close_runs

SLOT_RESTARTS = 8
"""How often Tune starts a slot again; a setting that ends two processes is given up before."""

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


class StudyOwner:
    """The study in its actor. Where its database refuses, the search ends, with the reason for it.

    From then on nothing is written: there all stands as after a kill, and the slots, which are told
    to stop, can save what they train.
    """

    def __init__(self, where: Where, plan: Plan, *, trials: int) -> None:
        self._where = where
        self._study: Study | None = None
        self._error: str | None = None
        try:
            self._study = Study(where, plan, trials=trials)
        except ValueError as error:  # `failure` tells it; an actor's own would be a traceback
            self._error = str(error)

    def ask(self, method: str, *given: Any) -> Any:
        """What a method of the study gives; None once its database has refused."""
        if self._error is None:
            try:
                with store_errors_told(self._where, GOES_ON):
                    return getattr(self._study, method)(*given)
            except StudyStoreError as error:
                self._error = str(error)
        return None

    def is_stopping(self) -> bool:
        """See `tuning.study.Study`."""
        return self._study is None or self._error is not None or self._study.is_stopping()

    def failure(self) -> str | None:
        """The error that ended the search."""
        return self._error or (self._study.failure() if self._study else None)


class RemoteStudy:
    """The ledger as a slot sees it: every call goes to the actor that owns the study.

    Where that has died, the search is stopping, and `failure` says so: nothing comes of asking.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            return ray.get(self._actor.ask.remote(method, *given))
        except RayActorError:
            return None

    def pull(self, slot: int) -> TrialRecord | Literal["wait"] | None:
        """See `tuning.study.Study`."""
        return self._ask("pull", slot)

    def set_trial_run(self, number: int, run_id: str) -> None:
        """See `tuning.study.Study`."""
        self._ask("set_trial_run", number, run_id)

    def observe(self, number: int, fold: int, images: int, value: float) -> bool:
        """See `tuning.study.Study`."""
        return bool(self._ask("observe", number, fold, images, value))

    def end_fold(self, number: int, fold: int, done: FoldRecord) -> bool:
        """See `tuning.study.Study`."""
        return bool(self._ask("end_fold", number, fold, done))

    def finish(self, number: int, state: State, error: str | None = None) -> TrialRecord | None:
        """See `tuning.study.Study`; None where its database refused."""
        return self._ask("finish", number, state, error)

    def give_back(self, number: int, error: str | None = None) -> None:
        """See `tuning.study.Study`."""
        self._ask("give_back", number, error)

    def ran_out_of_memory(self, number: int) -> TrialRecord | None:
        """See `tuning.study.Study`."""
        return self._ask("ran_out_of_memory", number)

    def is_stopping(self) -> bool:
        """See `tuning.study.Study`."""
        try:
            return ray.get(self._actor.is_stopping.remote())
        except RayActorError:
            return True

    def is_finished(self) -> bool:
        """See `tuning.study.Study`."""
        return bool(self._ask("is_finished"))

    def stop(self) -> None:
        """See `tuning.study.Study`."""
        self._ask("stop")

    def release(self, slot: int) -> tuple[TrialRecord, ...]:
        """See `tuning.study.Study`."""
        return self._ask("release", slot) or ()

    def failure(self) -> str | None:
        """See `StudyOwner`."""
        try:
            return ray.get(self._actor.failure.remote())
        except RayActorError:
            return f"the process that keeps the study has died{GOES_ON}"


def run_slots(
    where: Where,
    plan: Plan,
    setup: Setup,
    *,
    trials: int,
    portion: Share,
    parallel: int,
    train: Train,
    on_trial: Callable[[TrialRecord], None],
) -> None:
    """Work on the study until `trials` settings have an end, or until `interrupt`.

    ValueError: the run's own setting cannot be trained, or the study's database can be used no
    more, for the reason given. RuntimeError: the slots ended before the search did.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    owner: Any = ray.remote(num_cpus=0)(StudyOwner).options(scheduling_strategy=here)
    actor = owner.remote(where, plan, trials=trials)
    ledger = RemoteStudy(actor)
    watcher = _Watcher(ledger, on_trial)
    os.environ.update(_QUIET)
    scratch = studies_dir() / f"{plan.name}.tune"
    slot = tune.with_parameters(_slot, ledger=ledger, setup=setup, train=train)
    resources = {"cpu": portion.worker_cpus, "gpu": portion.worker_gpus}
    try:
        with on_interrupt(watcher.asked_to_stop.set):
            grid = tune.Tuner(
                tune.with_resources(slot, resources),
                param_space={"slot": tune.grid_search(list(range(parallel)))},
                tune_config=tune.TuneConfig(max_concurrent_trials=parallel),
                run_config=tune.RunConfig(
                    name="slots",
                    storage_path=str(scratch),
                    failure_config=tune.FailureConfig(max_failures=SLOT_RESTARTS),
                    callbacks=[watcher],
                    verbose=0,
                ),
            ).fit()
        if (error := ledger.failure()) is not None:
            raise ValueError(error)
        if grid.errors and not ledger.is_finished():
            last = str(grid.errors[0]).strip().splitlines()[-1]
            raise RuntimeError(
                f"study '{plan.name}': a slot ended {SLOT_RESTARTS + 1} times: {last}"
            )
    finally:
        ray.kill(actor)
        shutil.rmtree(scratch, ignore_errors=True)


def _slot(config: Mapping[str, Any], *, ledger: RemoteStudy, setup: Setup, train: Train) -> None:
    """What runs in a slot's process.

    It asks for a setting when it is ready to train: with what each training would import.
    """
    os.environ.update(setup.environment)  # first: some of it is read on import
    import mlflow.tracking  # noqa: F401
    import torch
    import torch._dynamo  # the first optimizer would import it

    torch.set_num_threads(setup.threads)
    work(ledger, config["slot"], setup, train, lambda done: tune.report({"ended": done}))


class _Watcher(tune.Callback):
    """Hears in the driver what happens in the slots."""

    def __init__(self, ledger: RemoteStudy, on_trial: Callable[[TrialRecord], None]) -> None:
        self.asked_to_stop = threading.Event()
        self._ledger = ledger
        self._on_trial = on_trial
        self._told = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune writes its callbacks into a file from which nothing is ever read.
        return _Watcher, (None, None)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Hand on the wish to stop."""
        if self.asked_to_stop.is_set() and not self._told:
            self._told = True
            self._ledger.stop()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial of the search has an end."""
        if "ended" in result:
            self._on_trial(result["ended"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A slot's process has ended, and another follows."""
        self._release(trial.config["slot"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A slot is lost."""
        self._release(trial.config["slot"])

    def _release(self, slot: int) -> None:
        for done in self._ledger.release(slot):
            close_runs(done)
            self._on_trial(done)

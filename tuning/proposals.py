"""What to try next: pure functions of the seed and of earlier generations.

A search that was killed and resumed is the same search because nothing else enters: proposals of a
generation and all decisions about its trials see the finished trials of the generations before it,
never one of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tuning.objectives import Objective
from tuning.plan import Plan
from tuning.pruning import by_fold
from tuning.results import TrialRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP_TRIALS = 8
"""Settings drawn at random before the sampler models what was found."""


def propose(plan: Plan, earlier: Sequence[TrialRecord], *, first: int) -> list[dict[str, Any]]:
    """The settings of a generation, whose first trial has the number `first` (TPE).

    One setting where the plan is asynchronous. With several objectives TPE cannot order pruned
    trials and does not hear of them. Those of one generation keep their distance: each
    counts as running when the next is drawn.
    """
    generation = first if plan.asynchronous else first // plan.generation_size
    state = np.random.SeedSequence([plan.seed, generation]).generate_state(1)
    single = len(plan.objectives) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(
            seed=int(state[0]),
            n_startup_trials=STARTUP_TRIALS,
            multivariate=single,
            group=single and bool(plan.conditions),
        )
    study = optuna.create_study(
        directions=[item.direction for item in plan.objectives], sampler=sampler
    )
    for trial in earlier:
        is_told = trial.state == "COMPLETE" or (single and trial.state == "PRUNED")
        if is_told and set(trial.params) == wanted_paths(plan, trial.params):
            study.add_trial(_as_told(trial, plan))
    count = 1 if plan.asynchronous else plan.generation_size
    if not plan.conditions:
        return [dict(study.ask(dict(plan.distributions)).params) for _ in range(count)]
    return [_conditional(study.ask(), plan) for _ in range(count)]


def wanted_paths(plan: Plan, params: Mapping[str, Any]) -> set[str]:
    """The paths that a setting with these values has: all whose condition is met."""
    met = {path: params.get(other) == value for path, (other, value) in plan.conditions.items()}
    return {path for path in plan.distributions if met.get(path, True)}


def _conditional(trial: Trial, plan: Plan) -> dict[str, Any]:
    """What others depend on is drawn first."""
    ordered = sorted(plan.distributions, key=lambda path: path in plan.conditions)
    for path in ordered:
        if path in wanted_paths(plan, trial.params):
            suggest(trial, path, plan.distributions[path])
    return dict(trial.params)


def suggest(trial: Trial, path: str, distribution: BaseDistribution) -> None:
    """Let Optuna take the queued value of one setting."""
    if isinstance(distribution, FloatDistribution):
        trial.suggest_float(path, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(path, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(path, distribution.choices)


def progress_of(trial: TrialRecord, objective: Objective, num_folds: int) -> dict[int, float]:
    """The trial's course as Optuna keeps it: by images where there is one fold, else by fold."""
    if num_folds == 1:
        return {images: value for fold in trial.folds.values() for images, value in fold.curve}
    return by_fold(trial, objective)


def _as_told(trial: TrialRecord, plan: Plan) -> FrozenTrial:
    complete = trial.state == "COMPLETE"
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        values=[trial.values[item.name] for item in plan.objectives] if complete else None,
        params=dict(trial.params),
        distributions={path: plan.distributions[path] for path in trial.params},
        intermediate_values=progress_of(trial, plan.objectives[0], plan.num_folds),
    )

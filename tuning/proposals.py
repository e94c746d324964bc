"""What to try next and what to give up: pure functions of the seed and of earlier generations.

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
from optuna.pruners import BasePruner, MedianPruner, WilcoxonPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tuning.objectives import Objective
from tuning.results import TrialRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP_TRIALS = 8
"""Settings drawn at random before the sampler models what was found."""

PRUNER_STARTUP_TRIALS = 4
"""Complete trials with a learning curve before one is stopped for lying below their median."""

PRUNER_P_VALUE = 0.1
"""How sure the paired test over folds must be that a trial is worse than the best one."""


def propose(
    distributions: Mapping[str, BaseDistribution],
    objectives: Sequence[Objective],
    earlier: Sequence[TrialRecord],
    *,
    num_folds: int,
    seed: int,
    generation: int,
    count: int,
) -> list[dict[str, Any]]:
    """The `count` settings of a generation (TPE, multivariate for one objective).

    Those of one generation keep their distance: each counts as running when the next is drawn.
    """
    state = np.random.SeedSequence([seed, generation]).generate_state(1)
    sampler = TPESampler(
        seed=int(state[0]), n_startup_trials=STARTUP_TRIALS, multivariate=len(objectives) == 1
    )
    study = _view(objectives, sampler=sampler)
    for trial in earlier:
        if set(trial.params) == set(distributions) and trial.state in ("COMPLETE", "PRUNED"):
            study.add_trial(_as_told(trial, distributions, objectives, num_folds))
    return [dict(study.ask(dict(distributions)).params) for _ in range(count)]


def suggest(trial: Trial, path: str, distribution: BaseDistribution) -> None:
    """Let Optuna take the queued value of one setting."""
    if isinstance(distribution, FloatDistribution):
        trial.suggest_float(path, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(path, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(path, distribution.choices)


def lags_behind(
    trial: TrialRecord, fold: int, earlier: Sequence[TrialRecord], objective: Objective
) -> bool:
    """Whether the fold's learning curve lies below the median of earlier ones at its last point."""
    curves = [
        create_trial(
            state=TrialState.COMPLETE, value=0.0, intermediate_values=dict(past.folds[fold].curve)
        )
        for past in earlier
        if past.state == "COMPLETE" and fold in past.folds and past.folds[fold].curve
    ]
    running = dict(trial.folds[fold].curve)
    pruner = MedianPruner(n_startup_trials=PRUNER_STARTUP_TRIALS, n_warmup_steps=0)
    return _judge(pruner, curves, running, objective)


def loses_on_folds(
    trial: TrialRecord, earlier: Sequence[TrialRecord], objective: Objective
) -> bool:
    """Whether the finished folds say that the trial is worse than the best one, paired by fold."""
    folds = [
        create_trial(
            state=TrialState.COMPLETE,
            value=past.values[objective.name],
            intermediate_values=_by_fold(past, objective),
        )
        for past in earlier
        if past.state == "COMPLETE"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=PRUNER_P_VALUE, n_startup_steps=2)
    return _judge(pruner, folds, _by_fold(trial, objective), objective)


def _judge(
    pruner: BasePruner, past: Sequence[FrozenTrial], running: dict[int, float], objective: Objective
) -> bool:
    study = _view([objective])
    study.add_trials(past)
    return pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=running))


def _by_fold(trial: TrialRecord, objective: Objective) -> dict[int, float]:
    return {index: fold.values[objective.name] for index, fold in trial.finished_folds.items()}


def progress_of(trial: TrialRecord, objective: Objective, num_folds: int) -> dict[int, float]:
    """The trial's course as Optuna keeps it: by images where there is one fold, else by fold."""
    if num_folds == 1:
        return {images: value for fold in trial.folds.values() for images, value in fold.curve}
    return _by_fold(trial, objective)


def _as_told(
    trial: TrialRecord,
    distributions: Mapping[str, BaseDistribution],
    objectives: Sequence[Objective],
    num_folds: int,
) -> FrozenTrial:
    complete = trial.state == "COMPLETE"
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        values=[trial.values[item.name] for item in objectives] if complete else None,
        params=dict(trial.params),
        distributions=dict(distributions),
        intermediate_values=progress_of(trial, objectives[0], num_folds),
    )


def _view(objectives: Sequence[Objective], sampler: TPESampler | None = None) -> optuna.Study:
    """A study in memory that holds exactly what a decision may see."""
    return optuna.create_study(directions=[item.direction for item in objectives], sampler=sampler)

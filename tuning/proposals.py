"""What to try next: pure functions of the seed and of earlier generations.

A search that was killed and resumed is the same search because nothing else enters: proposals of a
generation and all decisions about its trials see the finished trials of all generations before it
but the last (`Study._first_unknown`), never one of its own.
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
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tuning.objectives import Objective
from tuning.plan import Plan
from tuning.pruning import by_fold
from tuning.results import TrialRecord

optuna.logging.set_verbosity(optuna.logging.ERROR)

STARTUP_TRIALS = 8
"""Results that the sampler must know before it models them; until then settings are random."""


def propose(
    plan: Plan,
    earlier: Sequence[TrialRecord],
    open_ones: Sequence[Mapping[str, Any]],
    *,
    first: int,
) -> list[dict[str, Any]]:
    """The settings of a generation, whose first trial has the number `first`.

    One setting where the plan is asynchronous. They keep their distance from `open_ones`, settings
    of which no result is known, and from one another: each counts as running when the next is
    drawn.
    """
    generation = first if plan.asynchronous else first // plan.generation_size
    state = np.random.SeedSequence([plan.seed, generation]).generate_state(1)
    study = optuna.create_study(
        directions=[item.direction for item in plan.objectives],
        sampler=_sampler(plan, int(state[0])),
    )
    told = [trial for trial in earlier if set(trial.params) == wanted_paths(plan, trial.params)]
    study.add_trials(_told(told, plan))
    study.add_trials([_as_running(params, plan) for params in open_ones])
    count = 1 if plan.asynchronous else plan.generation_size
    if not plan.conditions:
        return [dict(study.ask(dict(plan.distributions)).params) for _ in range(count)]
    return [_conditional(study.ask(), plan) for _ in range(count)]


def _sampler(plan: Plan, seed: int) -> BaseSampler:
    """A Gaussian process, or TPE where the plan says so, there are conditions or many aims."""
    single = len(plan.objectives) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if plan.sampler == "gp" and single and not plan.conditions:
            return GPSampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False
            )
        return TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=single,
            group=single and bool(plan.conditions),
        )


def _told(trials: Sequence[TrialRecord], plan: Plan) -> list[FrozenTrial]:
    """What the sampler hears of. One objective: pruned trials too, in the place that they had.

    TPE orders them itself. The Gaussian process takes values alone: that of the finished folds, or
    where there is none, what complete trials ended with whose curves were as low; but none better
    than the median of the complete trials.
    """
    aim = plan.objectives[0]
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    found = [
        _as_told(trial, plan, [trial.values[o.name] for o in plan.objectives]) for trial in complete
    ]
    pruned = [trial for trial in trials if trial.state == "PRUNED"]
    if len(plan.objectives) > 1 or not complete:
        return found
    if plan.sampler == "tpe" or plan.conditions:
        return found + [_as_told(trial, plan, None) for trial in pruned]
    values = sorted((trial.values[aim.name] for trial in complete), reverse=aim.maximizes)
    worse = min if aim.maximizes else max
    for trial in pruned:
        seen = trial.values.get(aim.name)
        seen = _by_curve(trial, complete, aim) if seen is None else seen
        value = values[-1] if seen is None else worse(seen, values[len(values) // 2])
        found.append(_as_told(trial, plan, [value]))
    return found


def _by_curve(trial: TrialRecord, complete: Sequence[TrialRecord], aim: Objective) -> float | None:
    """What the course of complete trials makes of the last point of a curve; None without any.

    Interpolated between them; beyond the worst or the best it is that one's.
    """
    for fold, kept in trial.folds.items():
        if not kept.curve:
            continue
        images, value = kept.curve[-1]
        known = [
            (dict(past.folds[fold].curve).get(images), past.values[aim.name])
            for past in complete
            if fold in past.folds
        ]
        pairs = [(seen, end) for seen, end in known if seen is not None]
        if pairs:
            seen, ends = (sorted(side) for side in zip(*pairs, strict=True))
            return float(np.interp(value, seen, ends))
    return None


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


def _as_running(params: Mapping[str, Any], plan: Plan) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING, params=dict(params), distributions=_distributions(params, plan)
    )


def _distributions(params: Mapping[str, Any], plan: Plan) -> dict[str, BaseDistribution]:
    return {path: plan.distributions[path] for path in params}


def _as_told(trial: TrialRecord, plan: Plan, values: list[float] | None) -> FrozenTrial:
    """The trial in the sampler's view: complete with these values, else pruned."""
    return create_trial(
        state=TrialState.COMPLETE if values else TrialState.PRUNED,
        values=values,
        params=dict(trial.params),
        distributions=_distributions(trial.params, plan),
        intermediate_values=progress_of(trial, plan.objectives[0], plan.num_folds),
    )

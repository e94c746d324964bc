"""What a search ends with: which settings mattered, what it cost, the test of what it chose."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from cluster.home import runs_dir
from trainer.launch import RunResult, unstopped
from trainer.steps import to_its_end
from tuning.objectives import Objective
from tuning.results import SearchResult, TrialRecord
from tuning.space import with_setting
from tuning.trial import Setup, Train

LEAST_TRIALS = 6
"""Complete trials below which nothing is said of importance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a search took. What was saved is estimated by the mean of the complete trials."""

    trainings: int
    seconds: float
    saved_seconds: float

    @property
    def saved_share(self) -> float:
        """Of all the training that there would have been without pruning."""
        whole = self.seconds + self.saved_seconds
        return self.saved_seconds / whole if whole else 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trainings": self.trainings,
            "seconds": round(self.seconds, 3),
            "saved_seconds": round(self.saved_seconds, 3),
            "saved_share": round(self.saved_share, 4),
        }


def cost_of(trials: Sequence[TrialRecord]) -> Cost:
    """The cost of these trials, and what it would have been had none been pruned."""
    complete = [trial.seconds for trial in trials if trial.state == "COMPLETE"]
    mean = sum(complete) / len(complete) if complete else 0.0
    saved = [max(mean - trial.seconds, 0.0) for trial in trials if trial.state == "PRUNED"]
    return Cost(
        trainings=sum(len(trial.folds) for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
        saved_seconds=sum(saved),
    )


def importance(
    distributions: Mapping[str, BaseDistribution],
    objectives: Sequence[Objective],
    trials: Sequence[TrialRecord],
) -> dict[str, dict[str, float]]:
    """By objective, each setting's share in the variance of the results (fANOVA); the larger first.

    Empty where fewer than `LEAST_TRIALS` trials have every setting, or all gave the same value.
    """
    usable = [
        trial
        for trial in trials
        if trial.state == "COMPLETE" and trial.params.keys() == distributions.keys()
    ]
    found = {}
    for objective in objectives if len(usable) >= LEAST_TRIALS else ():
        values = [trial.values[objective.name] for trial in usable]
        if max(values) - min(values) < 1e-12:
            continue
        study = optuna.create_study(direction=objective.direction)
        for trial, value in zip(usable, values, strict=True):
            study.add_trial(
                create_trial(
                    value=value, params=dict(trial.params), distributions=dict(distributions)
                )
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        found[objective.name] = {path: float(share) for path, share in shares.items()}
    return found


def outer_test(
    setup: Setup,
    result: SearchResult,
    train: Train,
    known: Mapping[str, str],
    keep: Callable[[str, str], None],
) -> dict[str, Any]:
    """Train the best setting and the run's own on the outer fold, and test each once.

    Where the two are one, it is trained once. `known` holds the runs of an earlier attempt by name,
    `keep` remembers one: what is finished is read and not tested again. KeyboardInterrupt where one
    is stopped.
    """
    best = result.best
    assert best is not None and setup.outer is not None
    found: dict[str, Any] = {}
    for name, params in (("own", {}), ("best", best.params)):
        run = with_setting(setup.run, params)
        if found and run == setup.run:
            found[name] = found["own"]
            break
        done = RunResult.finished(runs_dir() / known[name]) if known.get(name) else None
        if done is None:
            done = to_its_end(
                train(
                    run,
                    setup.lake,
                    fold=setup.outer,
                    experiment=setup.experiment,
                    name=f"{result.study} {name} on {setup.outer}",
                    parent=setup.study_run,
                    allow_leaks=setup.leaks != "none",
                )
            )
            keep(name, unstopped(done).run_id)
        found[name] = done.as_json()
    return found

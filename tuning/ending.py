"""What a search ends with: which settings mattered, what it cost, the test of what it chose."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from cluster.home import runs_dir
from trainer.launch import RunResult
from trainer.scorecard.intervals import subject_intervals
from trainer.steps import to_its_end
from tuning.objectives import Objective, of_test
from tuning.progress import tell_ending, tell_stopped
from tuning.pruning import PAIRED, paired_subjects
from tuning.results import SearchResult, TrialRecord
from tuning.setup import Setup
from tuning.space import with_setting
from tuning.studies import going_on
from tuning.study import Study
from tuning.trial import Train
from tuning.trial_runs import begun_run

LEAST_TRIALS = 6
"""Complete trials below which nothing is said of importance."""


def conclude(study: Study, setup: Setup, train: Train) -> SearchResult:
    """The result with what a search ends with; MLflow's run of the study is told of it.

    RuntimeError where every trial failed; KeyboardInterrupt where the outer test is stopped.
    """
    result = _result(study)
    if result.status == "stopped":
        return result
    result = replace(
        result,
        importance=importance(study.plan.distributions, result.objectives, result.trials),
        cost=cost_of(result.trials).as_json(),
        validation=over_subjects(result),
    )
    if setup.outer is not None and result.best is not None:
        result = _tested(study, setup, result, train)
    if study.kept("told") != result.num_ended:
        tell_ending(result)
        study.keep("told", result.num_ended)
    return result


def _tested(study: Study, setup: Setup, result: SearchResult, train: Train) -> SearchResult:
    """The result with its outer test, and with the trials that were tested before it."""
    assert result.best is not None
    begun, best = study.kept("tested") or [], result.best.number
    if best not in begun:
        begun = [*begun, best]
        study.keep("tested", begun)  # before the test: a kill between the two would hide it
    before = tested_among(setup, result.trials, begun[: begun.index(best)])
    try:
        outer = outer_test(setup, result, train)
    except KeyboardInterrupt:
        tell_stopped(result)
        raise
    return replace(result, outer=outer, tested_before=before)


def _result(study: Study) -> SearchResult:
    """RuntimeError where every trial failed."""
    records = study.records()
    if study.is_finished() and all(record.state == "FAIL" for record in records):
        raise RuntimeError(
            f"study '{study.plan.name}': all {len(records)} trials failed; the first: "
            f"{records[0].error}"
        )
    return SearchResult(
        study=study.plan.name,
        run_id=study.kept("run_id"),
        objectives=study.plan.objectives,
        trials=records,
        status="finished" if study.is_finished() else "stopped",
        seconds=0.0,
        asynchronous=study.plan.asynchronous,
        unseen=study.kept("unseen"),
    )


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
    trials = [trial for trial in trials if trial.same_as is None]
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


def over_subjects(result: SearchResult) -> dict[str, Any]:
    """The best trial's first objective over all its validation subjects, with its interval.

    It has chosen the trial, so it is better than what the trial would get of others. Empty where
    what was said of each subject is not kept.
    """
    best, name = result.best, result.objectives[0].name
    if best is None or name not in PAIRED or (pair := paired_subjects(best, best)) is None:
        return {}
    found = subject_intervals(pair[0], {name: PAIRED[name]})[name]
    return {"objective": name, **asdict(found), "num_subjects": len(pair[0])}


def outer_test(setup: Setup, result: SearchResult, train: Train) -> dict[str, Any]:
    """Train the best setting and the run's own on the outer fold, and test each once.

    Where the two are one, it is trained once. A run that was begun for a setting goes on; one that
    has finished is read and not tested again. KeyboardInterrupt where one is stopped.
    """
    best = result.best
    assert best is not None and setup.outer is not None
    found: dict[str, Any] = {}
    for name, params in (("own", {}), ("best", best.params)):
        run = with_setting(setup.run, params)
        if found and run == setup.run:
            found[name] = found["own"]
            break
        done = to_its_end(
            train(
                run,
                setup.lake,
                fold=setup.outer,
                experiment=setup.experiment,
                name=f"{result.study} {name} on {setup.outer}",
                parent=setup.study_run,
                resume=begun_run(setup.study_run, run, setup.outer),
                allow_leaks=setup.leaks != "none",
            )
        )
        if done.status == "stopped":
            raise KeyboardInterrupt(going_on(result.study))
        card = done.as_json()
        found[name] = {**card, "objectives": of_test(result.objectives, card)}
    return found


def tested_among(
    setup: Setup, trials: Sequence[TrialRecord], numbers: Sequence[int]
) -> tuple[int, ...]:
    """Those of the trials whose test on the outer fold's subjects has come to its end."""
    params = {trial.number: trial.params for trial in trials}
    runs = {
        number: begun_run(setup.study_run, with_setting(setup.run, params[number]), setup.outer)
        for number in numbers
    }
    return tuple(
        number
        for number, run in runs.items()
        if run is not None and RunResult.finished(runs_dir() / run) is not None
    )

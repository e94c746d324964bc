"""What to give up: pure functions of a trial and of those whose results its generation knows."""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, WilcoxonPruner
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import t as student_t

from trainer.scorecard.intervals import paired_error
from trainer.scorecard.statistics import Metric, accuracy, macro_recall
from tuning.objectives import Objective
from tuning.results import Cells, TrialRecord

STARTUP_TRIALS = 4
"""Complete trials with a learning curve before one is stopped for lying below their median."""

LAG_ERRORS = 1.0
"""How far a trial must lie below the median, in standard errors of its mean over folds: by normal
noise, one that is better than the median by a standard deviation in a fold is lost in 3 of 100
searches of ten folds, one at the median in 40."""

FALSE_ALARMS = 0.02
"""How often a trial as good as the best one may be given up over all looks at its subjects."""

FOLD_P_VALUE = 0.1
"""How sure the paired test must be where only folds can be paired, for want of subjects."""

PAIRED: Mapping[str, Metric] = {"macro_recall": macro_recall, "accuracy": accuracy}
"""Objectives of which subjects can be paired."""

DOMINATED_FOLDS = 2
"""Folds in which one earlier trial must be better in every objective."""


def lags_behind(
    trial: TrialRecord, fold: int, earlier: Sequence[TrialRecord], objective: Objective
) -> bool:
    """Whether the trial's learning curves lie below the median of earlier ones.

    They are asked at the last point of the curve of `fold`. Where earlier trials have several
    folds, the mean lag over the trial's folds so far must exceed its standard error: each fold adds
    to what is known, and chance in a single one of them gives up no good trial.
    """
    complete = [
        past
        for past in earlier
        if past.state == "COMPLETE" and fold in past.folds and past.folds[fold].curve
    ]
    if len(complete) < STARTUP_TRIALS:
        return False
    images = max(dict(trial.folds[fold].curve))
    lags = _lags(trial, complete, images, objective)
    if lags is not None:
        return bool(np.mean(lags) > LAG_ERRORS * _deviation(complete, images) / np.sqrt(len(lags)))
    curves = [
        create_trial(
            state=TrialState.COMPLETE, value=0.0, intermediate_values=dict(past.folds[fold].curve)
        )
        for past in complete
    ]
    pruner = MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=0)
    return _judge(pruner, curves, dict(trial.folds[fold].curve), objective)


def _lags(
    trial: TrialRecord, complete: Sequence[TrialRecord], images: int, objective: Objective
) -> list[float] | None:
    """How far the trial lies below the median after so many images, by fold that it shares with all
    others; None where they have no two folds, whose noise could be told."""
    table_TF, shared = _table(complete, images)
    if min(table_TF.shape) < 2:
        return None
    own = {k: dict(one.curve).get(images) for k, one in trial.folds.items() if k in shared}
    medians = dict(zip(shared, np.median(table_TF, axis=0).tolist(), strict=True))
    sign = 1 if objective.maximizes else -1
    return [sign * (medians[k] - value) for k, value in own.items() if value is not None]


def _deviation(complete: Sequence[TrialRecord], images: int) -> float:
    """Of what trials and folds do not explain of one another's values."""
    table_TF, _ = _table(complete, images)
    rest_TF = table_TF - table_TF.mean(1, keepdims=True) - table_TF.mean(0) + table_TF.mean()
    rows, columns = table_TF.shape
    return float(np.sqrt(np.square(rest_TF).sum() / ((rows - 1) * (columns - 1))))


def _table(complete: Sequence[TrialRecord], images: int) -> tuple[np.ndarray, list[int]]:
    """The trials' finite values after so many images, by the folds that all have."""
    at = [{k: dict(one.curve).get(images) for k, one in past.folds.items()} for past in complete]
    shared = sorted(set.intersection(*(set(row) for row in at)))
    table_TF = np.array([[row[k] for k in shared] for row in at], dtype=float)
    return table_TF[np.isfinite(table_TF).all(axis=1)], shared


def loses_on_folds(
    trial: TrialRecord, earlier: Sequence[TrialRecord], objective: Objective, num_folds: int
) -> bool:
    """Whether the finished folds say that the trial is worse than the best one, in pairs.

    Pairs are the validation subjects of the finished folds where both trials kept their results,
    else the folds themselves.
    """
    complete = [past for past in earlier if past.state == "COMPLETE"]
    if not complete:
        return False
    sign = 1 if objective.maximizes else -1
    best = max(complete, key=lambda past: (sign * past.values[objective.name], -past.number))
    pairs = paired_subjects(trial, best) if objective.name in PAIRED else None
    if pairs is not None:
        metric, look = PAIRED[objective.name], len(trial.finished_folds)
        return worse_by_subjects(*pairs, metric, look=look, num_folds=num_folds)
    return _loses_by_fold(trial, complete, objective)


def paired_subjects(trial: TrialRecord, best: TrialRecord) -> tuple[np.ndarray, np.ndarray] | None:
    """The two trials' confusion matrices of the same subjects [S, K, K], over the folds that the
    first has finished. A subject is one, however many folds it validates in."""
    left: defaultdict[str, list[Cells]] = defaultdict(list)
    right: defaultdict[str, list[Cells]] = defaultdict(list)
    for index, fold in trial.finished_folds.items():
        past = best.finished_folds.get(index)
        if past is None or not fold.subjects or fold.subjects.keys() != past.subjects.keys():
            return None
        for name, cells in fold.subjects.items():
            left[name].append(cells)
            right[name].append(past.subjects[name])
    seen = [cells for one in (left, right) for folds in one.values() for cells in folds]
    classes = 1 + max(max(cell[:2]) for cells in seen for cell in cells)
    return _dense(left, classes), _dense(right, classes)


def _dense(subjects: Mapping[str, Sequence[Cells]], classes: int) -> np.ndarray:
    counts_SKK = np.zeros((len(subjects), classes, classes), dtype=np.int64)
    for counts_KK, folds in zip(counts_SKK, subjects.values(), strict=True):
        for true, said, faces in itertools.chain(*folds):
            counts_KK[true, said] += faces
    return counts_SKK


def look_level(look: int, num_folds: int) -> float:
    """The part of `FALSE_ALARMS` that the look after so many folds may spend.

    There is one after every fold but the last. What each may spend is in proportion to the folds
    that giving up would spare then: together they keep the level (weighted Bonferroni), and most of
    it goes where most is to be won.
    """
    return FALSE_ALARMS * (num_folds - look) / (num_folds * (num_folds - 1) / 2)


def worse_by_subjects(
    trial_SKK: np.ndarray, best_SKK: np.ndarray, metric: Metric, *, look: int, num_folds: int
) -> bool:
    """One-sided test over the subjects of the first `look` folds, at `look_level`.

    Student's t of the paired jackknife difference, which for macro recall compares within classes:
    that one trial leans to one class and the other to another is no noise. It is no surer than the
    sign of each subject that differs could be. What is not below the best is never given up.
    """
    differing = int(np.any(trial_SKK != best_SKK, axis=(1, 2)).sum())
    value, error, degrees = paired_error(trial_SKK, best_SKK, metric)
    if value >= 0 or error == 0:
        return False
    surest = 0.5**differing
    found = max(float(student_t.cdf(value / error, degrees)), surest)
    return found < look_level(look, num_folds)


def _loses_by_fold(
    trial: TrialRecord, complete: Sequence[TrialRecord], objective: Objective
) -> bool:
    folds = [
        create_trial(
            state=TrialState.COMPLETE,
            value=past.values[objective.name],
            intermediate_values=by_fold(past, objective),
        )
        for past in complete
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=FOLD_P_VALUE, n_startup_steps=2)
    return _judge(pruner, folds, by_fold(trial, objective), objective)


def is_dominated(
    trial: TrialRecord, earlier: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> bool:
    """Whether one earlier trial was better in every objective, in each of two folds or more."""
    folds = trial.finished_folds
    if len(folds) < DOMINATED_FOLDS:
        return False
    return any(
        past.state == "COMPLETE"
        and all(
            index in past.finished_folds
            and _better(past.finished_folds[index].values, fold.values, objectives)
            for index, fold in folds.items()
        )
        for past in earlier
    )


def _better(
    past: Mapping[str, float], values: Mapping[str, float], objectives: Sequence[Objective]
) -> bool:
    return all(
        past[item.name] > values[item.name]
        if item.maximizes
        else past[item.name] < values[item.name]
        for item in objectives
    )


def by_fold(trial: TrialRecord, objective: Objective) -> dict[int, float]:
    """The objective's value in each finished fold."""
    return {index: fold.values[objective.name] for index, fold in trial.finished_folds.items()}


def _judge(
    pruner: BasePruner, past: Sequence[FrozenTrial], running: dict[int, float], objective: Objective
) -> bool:
    study = optuna.create_study(direction=objective.direction)
    study.add_trials(past)
    return pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=running))

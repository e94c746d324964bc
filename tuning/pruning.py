"""What to give up: pure functions of a trial and of those whose results its generation knows."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student_t

from trainer.scorecard.intervals import paired_error
from trainer.scorecard.statistics import Metric, accuracy, macro_recall
from tuning.objectives import Objective
from tuning.results import Cells, TrialRecord, front_of

STARTUP_TRIALS = 4
"""Complete trials with a learning curve before one is stopped for what they tell of its own."""

LAG_ERRORS = 1.0
"""How far a trial must lie below the median, in standard errors of its mean over folds: by normal
noise, one that is better than the median by a standard deviation in a fold is lost in 3 of 100
searches of ten folds, one at the median in 40. So it bounds no error: how often it loses the best
depends on how far that one lies above the median. Among settings as unlike as those of the replay's
table it gives up one that is as good as the best in 7 of 100 searches, both of two such in 1
(`benchmarks/pruning_errors.py`)."""

FALSE_ALARMS = 0.02
"""How often a trial as good as the one that it is compared with may be given up, over all looks at
its subjects, its folds or, where it has one fold, its curve."""

LEAST_FOLDS = 3
"""Finished folds before they are paired: two may differ by the same amount by chance."""

PAIRED: Mapping[str, Metric] = {"macro_recall": macro_recall, "accuracy": accuracy}
"""Objectives of which subjects can be paired."""


def lags_behind(trial: TrialRecord, earlier: Sequence[TrialRecord], objective: Objective) -> bool:
    """Whether the trial's finished folds lie below the median of the complete trials, beyond noise.

    The mean lag over these folds must exceed its standard error: each fold adds to what is known,
    and chance in a single one gives up no good trial. Ends alone count: earlier points of the
    curves tell of who learns fast, which a lower rate does not and may yet end as the best (in half
    of the searches of such a table the best one was lost by them). What is no number is given up.
    """
    complete = [past for past in earlier if past.state == "COMPLETE"]
    if len(complete) < STARTUP_TRIALS:
        return False
    table_TF, shared = _table(complete, objective)
    if min(table_TF.shape) < 2:
        return False
    own, sign = by_fold(trial, objective), 1 if objective.maximizes else -1
    medians = dict(zip(shared, np.median(table_TF, axis=0).tolist(), strict=True))
    lags = [sign * (medians[k] - value) for k, value in own.items() if k in medians]
    if not lags:
        return False
    kept = np.mean(lags) <= LAG_ERRORS * _deviation(table_TF) / np.sqrt(len(lags))
    return not kept


def ends_below(trial: TrialRecord, earlier: Sequence[TrialRecord], objective: Objective) -> bool:
    """Whether a trial of one fold lies lower than one that would end as the best, by its curve.

    The line from complete trials' ends to their values after as many images, and Student's t of
    what it says of one more that ends as the best (Draper and Smith, Applied Regression Analysis,
    1998, section 3.1), at `look_level`: where values lie about such a line by normal noise, that
    one is given up in `FALSE_ALARMS` of the cases over all points of its curve. Where they lie
    otherwise, in more: in 5 to 6 of 100 in `benchmarks/pruning_errors.py`. What is no number any
    more is given up.
    """
    curve = _curve(trial)
    complete = [past for past in earlier if past.state == "COMPLETE" and _curve(past)]
    if not curve or len(complete) < STARTUP_TRIALS:
        return False
    images = max(curve)
    if not np.isfinite(curve[images]):
        return True
    sign = 1 if objective.maximizes else -1
    pairs = [(_curve(past).get(images, np.nan), past.values[objective.name]) for past in complete]
    pairs_T2 = sign * np.array(pairs)
    seen_T, ends_T = pairs_T2[np.isfinite(pairs_T2).all(axis=1)].T
    degrees = len(seen_T) - 2
    if degrees < 1 or np.ptp(ends_T) == 0:
        return False
    apart_T, away = ends_T - ends_T.mean(), ends_T.max() - ends_T.mean()
    spread = np.square(apart_T).sum()
    slope = (apart_T @ seen_T) / spread
    rest_T = seen_T - seen_T.mean() - slope * apart_T
    error = np.sqrt(np.square(rest_T).sum() / degrees * (1 + 1 / len(seen_T) + away**2 / spread))
    short = seen_T.mean() + slope * away - sign * curve[images]
    level = look_level(*_look(images, complete))
    return bool(short > student_t.isf(level, degrees) * error)


def _curve(trial: TrialRecord) -> dict[int, float]:
    """That of the only fold: value by images."""
    return dict(trial.folds[1].curve) if 1 in trial.folds else {}


def _look(images: int, complete: Sequence[TrialRecord]) -> tuple[int, int]:
    """Which point of the curve this is, and how many parts the points cut a training into."""
    points = sorted({point for past in complete for point in _curve(past)})
    return points.index(images) + 1, len(points) + 1


def _deviation(table_TF: np.ndarray) -> float:
    """Of what trials and folds do not explain of one another's values."""
    rest_TF = table_TF - table_TF.mean(1, keepdims=True) - table_TF.mean(0) + table_TF.mean()
    rows, columns = table_TF.shape
    return float(np.sqrt(np.square(rest_TF).sum() / ((rows - 1) * (columns - 1))))


def _table(complete: Sequence[TrialRecord], objective: Objective) -> tuple[np.ndarray, list[int]]:
    """The trials' finite values, by the folds that all have."""
    rows = [by_fold(past, objective) for past in complete]
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    table_TF = np.array([[row[k] for k in shared] for row in rows], dtype=float)
    return table_TF[np.isfinite(table_TF).all(axis=1)], shared


def loses_on_folds(
    trial: TrialRecord, earlier: Sequence[TrialRecord], objective: Objective, num_folds: int
) -> bool:
    """Whether the finished folds say that the trial is worse than the best one, in pairs.

    Pairs are the validation subjects of the finished folds where both trials kept their results,
    else the folds themselves. The best one owes that in part to luck: of trials that are as good as
    20 others, 3 to 7 in 100 are given up by folds (`benchmarks/pruning_errors.py`).
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
    return worse_by_folds(fold_gaps(trial, best, objective), num_folds=num_folds)


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


def look_level(look: int, parts: int, *, first: int = 1) -> float:
    """What the look after so many of the parts of a trial may spend of `FALSE_ALARMS`.

    Parts are its folds. There is a look after every one but the last, from the `first` on. What
    each may spend is in proportion to the parts that giving up would spare then: together they keep
    the level (weighted Bonferroni), and most of it goes where most is to be won.
    """
    looks = parts - first
    return FALSE_ALARMS * (parts - look) / (looks * (looks + 1) / 2)


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


def fold_gaps(trial: TrialRecord, rival: TrialRecord, objective: Objective) -> np.ndarray:
    """How much better the rival is [F], in each fold that both have finished."""
    sign = 1 if objective.maximizes else -1
    own, other = by_fold(trial, objective), by_fold(rival, objective)
    return np.array(
        [sign * (other[index] - value) for index, value in own.items() if index in other]
    )


def worse_by_folds(gaps_F: np.ndarray, *, num_folds: int, compared: int = 1) -> bool:
    """One-sided paired test over the finished folds, at `look_level` shared by all `compared`.

    Student's t with the corrected error of Nadeau and Bengio 2003, "Inference for the
    generalization error": folds share most of their training faces, so that what chance gives a
    setting in one it may give it in others. Needs `LEAST_FOLDS`.
    """
    done = len(gaps_F)
    if not LEAST_FOLDS <= done < num_folds:
        return False
    error = np.sqrt((1 / done + 1 / (num_folds - 1)) * gaps_F.var(ddof=1))
    level = look_level(done, num_folds, first=LEAST_FOLDS) / compared
    return bool(gaps_F.mean() > student_t.isf(level, done - 1) * error)


def is_dominated(
    trial: TrialRecord, earlier: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> bool:
    """Whether a member of the present front is better in every objective, beyond noise.

    In each by the paired test over folds, whose level all members share (Bonferroni): one that is
    as good as they in any objective is given up in `FALSE_ALARMS` of the cases over all looks.
    """
    front = front_of(earlier, objectives)
    return any(
        all(
            worse_by_folds(
                fold_gaps(trial, past, item),
                num_folds=len(past.finished_folds),
                compared=len(front),
            )
            for item in objectives
        )
        for past in front
    )


def by_fold(trial: TrialRecord, objective: Objective) -> dict[int, float]:
    """The objective's value in each finished fold."""
    return {index: fold.values[objective.name] for index, fold in trial.finished_folds.items()}

"""How often each rule of pruning that sees no subjects gives up what it should keep, simulated.

`benchmarks.coverage` runs this and keeps what it finds. Rates are of whole trials, over all looks.

- folds: `loses_on_folds` where only folds can be paired (`worse_by_folds`), on a trial that is as
  good as its one rival, or as each of 20, of whom the luckiest is the one that it is compared with;
  with noise of each fold by itself, and with noise of which folds share a part (1/F of the variance
  of F folds, as Nadeau and Bengio 2003 take it).
- front: `is_dominated` by two objectives on a trial that is as good as each of 20.
- searches: by `lags_behind` alone through a population of settings with the spread of
  `benchmarks/results/replay_table_fersnet.json`: the effects of its settings, shrunk by what noise
  adds to them, its folds, its residuals. The best setting is there twice: how often one of them is
  given up, and how often both. The rule bounds neither; `median_given_up` is how often the middle
  setting is given up.
- searches of one fold: by `ends_below` through the same population, each training with three points
  of a curve on its way up from chance. The best is the setting that is so in truth; the one that
  would end best owes it to this fold's noise as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.replay import read_table
from tuning.objectives import Objective
from tuning.pruning import ends_below, is_dominated, lags_behind, loses_on_folds
from tuning.results import FoldRecord, State, TrialRecord

TABLE = Path("benchmarks/results/replay_table_fersnet.json")
RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")
EDITS = Objective(name="edit_accuracy", direction="maximize", capability="synthesise")
ERROR = Objective(name="reconstruction", direction="minimize", capability="synthesise")
RIVALS = (1, 20)
NUMBERS_OF_FOLDS = (5, 10)
ON_THE_WAY = ((1, 0.6), (2, 0.85), (3, 0.95))
"""Points of a curve: when, and which part of the way from chance to the end it has come by then."""
CHANCE = 0.2


def of_folds(values_FO: np.ndarray, objectives: Sequence[Objective], state: State) -> TrialRecord:
    """A trial with the given values by fold and objective."""
    names = [item.name for item in objectives]
    records = {
        fold: FoldRecord(values=dict(zip(names, row, strict=True)))
        for fold, row in enumerate(values_FO.tolist(), 1)
    }
    return TrialRecord(number=0, params={}, state=state, folds=records)


def equals_given_up(
    objectives: Sequence[Objective], num_folds: int, rivals: int, alike: float, studies: int
) -> float:
    """How often a trial is given up that is as good as each of its rivals.

    Folds share the part `alike` of the variance of a trial's noise.
    """
    generator = np.random.default_rng(1)
    shape = (rivals + 1, num_folds, len(objectives))
    lost = 0
    for _ in range(studies):
        own = generator.normal(0, np.sqrt(1 - alike), shape)
        shared = generator.normal(0, np.sqrt(alike), (rivals + 1, 1, len(objectives)))
        values_TFO = own + shared
        past = [of_folds(values_FO, objectives, "COMPLETE") for values_FO in values_TFO[1:]]
        looks = [of_folds(values_TFO[0, :n], objectives, "RUNNING") for n in range(1, num_folds)]
        if len(objectives) > 1:
            lost += any(is_dominated(trial, past, objectives) for trial in looks)
        else:
            lost += any(loses_on_folds(trial, past, objectives[0], num_folds) for trial in looks)
    return lost / studies


def fold_tests(studies: int) -> dict[str, float]:
    """Rates of the paired test over folds by situation."""
    found = {}
    for folds, rivals, shares in itertools.product(NUMBERS_OF_FOLDS, RIVALS, (False, True)):
        name = f"{folds} folds, {rivals} equal{', folds alike' if shares else ''}"
        alike = 1 / folds if shares else 0.0
        found[name] = equals_given_up([EDITS], folds, rivals, alike, studies)
    return found


def fronts(studies: int) -> dict[str, float]:
    """Rates of the test of two objectives."""
    return {
        f"{folds} folds, 20 equal": equals_given_up([EDITS, ERROR], folds, 20, 0.0, studies)
        for folds in NUMBERS_OF_FOLDS
    }


@dataclass(frozen=True, slots=True)
class Population:
    """Settings by their true values [T], the best one first; what folds add [F]; noise [N]."""

    values_T: np.ndarray
    folds_F: np.ndarray
    noise_N: np.ndarray

    def drawn(self, generator: np.random.Generator, num_folds: int) -> np.ndarray:
        """The settings' values [T, F] in some of the folds, with noise."""
        folds = generator.permutation(len(self.folds_F))[:num_folds]
        noise_TF = generator.choice(self.noise_N, (len(self.values_T), num_folds))
        return self.values_T[:, None] + self.folds_F[folds] + noise_TF


def population(table_TF: np.ndarray) -> Population:
    """One with the spread of a table of settings and folds, whose noise is its residuals."""
    rows, columns = table_TF.shape
    effects_T = table_TF.mean(axis=1) - table_TF.mean()
    folds_F = table_TF.mean(axis=0) - table_TF.mean()
    rest_TF = table_TF - table_TF.mean() - effects_T[:, None] - folds_F
    variance = np.square(rest_TF).sum() / ((rows - 1) * (columns - 1))
    kept = np.sqrt(max(0.0, 1 - variance / columns / effects_T.var(ddof=1)))
    return Population(
        values_T=table_TF.mean() + kept * np.sort(effects_T)[::-1],
        folds_F=folds_F,
        noise_N=rest_TF.ravel() * np.sqrt(variance / rest_TF.var()),
    )


def replayed_population() -> Population:
    """That of the committed replay table."""
    trials = read_table(TABLE)
    folds = sorted(set.intersection(*(set(trial.folds) for trial in trials)))
    return population(
        np.array([[one.folds[k].values["macro_recall"] for k in folds] for one in trials])
    )


def course(value: float, points: Sequence[float], final: bool) -> FoldRecord:
    """A training that shows these points, and its end once it is `final`."""
    curve = tuple(zip((when for when, _ in ON_THE_WAY), points, strict=False))
    return FoldRecord(values={"macro_recall": value} if final else {}, curve=curve)


def over_folds(people: Population, num_folds: int, searches: int) -> dict[str, float]:
    """Searches by the lag behind the median over folds."""
    twice = replace(people, values_T=np.insert(people.values_T, 0, people.values_T[0]))
    generator = np.random.default_rng(1)
    middle = len(twice.values_T) // 2
    lost, spent = np.zeros((searches, 3), dtype=bool), []
    for search in range(searches):
        values_TF = twice.drawn(generator, num_folds)
        ended: list[TrialRecord] = []
        for number in generator.permutation(len(values_TF)).tolist():
            trial = _by_lag(number, values_TF[number].tolist(), ended)
            ended.append(trial)
        off = {trial.number for trial in ended if trial.state == "PRUNED"}
        lost[search] = [number in off for number in (0, 1, middle)]
        spent.append(sum(len(trial.folds) for trial in ended) / values_TF.size)
    return {
        "best_given_up": float(lost[:, :2].mean()),
        "both_given_up": float(lost[:, :2].all(axis=1).mean()),
        "median_given_up": float(lost[:, 2].mean()),
        "trainings": round(float(np.mean(spent)), 4),
    }


def _by_lag(number: int, values: Sequence[float], ended: Sequence[TrialRecord]) -> TrialRecord:
    trial = TrialRecord(number=number, params={}, state="RUNNING")
    for fold, value in enumerate(values, 1):
        trial = trial.with_fold(fold, FoldRecord(values={"macro_recall": value}))
        if fold < len(values) and lags_behind(trial, ended, RECALL):
            return replace(trial, state="PRUNED")
    return replace(trial, state="COMPLETE")


def one_fold(people: Population, searches: int) -> dict[str, float]:
    """Searches by the course of the best, each training with a curve of its own."""
    generator = np.random.default_rng(1)
    lost, spent = np.zeros((searches, 2), dtype=bool), []
    for search in range(searches):
        ends_T = people.drawn(generator, 1)[:, 0]
        noise_TP = generator.choice(people.noise_N, (len(ends_T), len(ON_THE_WAY)))
        way_P = np.array([part for _, part in ON_THE_WAY])
        hard = ends_T.mean() - people.values_T.mean()
        points_TP = CHANCE + way_P * (people.values_T[:, None] + hard - CHANCE) + noise_TP
        ended: list[TrialRecord] = []
        for number in generator.permutation(len(ends_T)).tolist():
            ended.append(
                _by_course(number, float(ends_T[number]), points_TP[number].tolist(), ended)
            )
        off = {trial.number for trial in ended if trial.state == "PRUNED"}
        lost[search] = 0 in off, int(ends_T.argmax()) in off
        spent += [
            len(trial.folds[1].curve) / (len(way_P) + 1) if trial.number in off else 1.0
            for trial in ended
        ]
    return {
        "best_given_up": float(lost[:, 0].mean()),
        "best_end_given_up": float(lost[:, 1].mean()),
        "images": round(float(np.mean(spent)), 4),
    }


def _by_course(
    number: int, end: float, points: Sequence[float], ended: Sequence[TrialRecord]
) -> TrialRecord:
    trial = TrialRecord(number=number, params={}, state="RUNNING")
    for seen in range(1, len(points) + 1):
        trial = trial.with_fold(1, course(end, points[:seen], final=False))
        if ends_below(trial, ended, RECALL):
            return replace(trial, state="PRUNED")
    return replace(trial.with_fold(1, course(end, points, final=True)), state="COMPLETE")


def whole_searches(searches: int) -> dict[str, dict[str, float]]:
    """Of five folds, of ten, and of one."""
    people = replayed_population()
    found = {f"{folds} folds": over_folds(people, folds, searches) for folds in NUMBERS_OF_FOLDS}
    return {**found, "one fold": one_fold(people, searches)}

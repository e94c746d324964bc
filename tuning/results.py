"""What a search has found: its trials, the best of them, the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tuning.objectives import Objective

State = Literal["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]
FINAL: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL")


Cells = tuple[tuple[int, int, int], ...]
"""A sparse confusion matrix: index of the true class, of the predicted one, faces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldRecord:
    """One training of a trial.

    `values` by objective, empty while it is not finished; `curve` is (images, value of the first
    objective) at each validation; `subjects` holds how the faces of each validation subject were
    recognised, where the first objective is one of recognition.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    run_id: str | None = None
    seconds: float = 0.0
    subjects: Mapping[str, Cells] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "values": dict(self.values),
            "curve": [list(point) for point in self.curve],
            "run_id": self.run_id,
            "seconds": self.seconds,
            "subjects": {name: [list(cell) for cell in own] for name, own in self.subjects.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FoldRecord:
        """The record that `as_json` wrote."""
        curve = tuple((int(images), float(value)) for images, value in values["curve"])
        subjects = {
            name: tuple((int(true), int(said), int(faces)) for true, said, faces in cells)
            for name, cells in values["subjects"].items()
            if isinstance(cells, list)  # studies of earlier versions hold a number there
        }
        return cls(**{**values, "curve": curve, "subjects": subjects})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One setting and how it fared. `number` counts settings, from 0, whatever was interrupted.

    `params` holds the searched settings by path; trial 0 is the run's own setting. `deaths` counts
    the processes that ended while they trained it. `same_as` is the trial of equal settings whose
    result this one has taken over: nothing was trained for it.
    """

    number: int
    params: Mapping[str, Any]
    state: State = "WAITING"
    folds: Mapping[int, FoldRecord] = field(default_factory=dict)
    run_id: str | None = None
    error: str | None = None
    deaths: int = 0
    same_as: int | None = None

    @property
    def finished_folds(self) -> dict[int, FoldRecord]:
        """The folds that were trained to their end."""
        return {index: fold for index, fold in self.folds.items() if fold.values}

    @property
    def values(self) -> dict[str, float]:
        """The mean of each objective over the finished folds."""
        folds = list(self.finished_folds.values())
        if not folds:
            return {}
        return {
            name: sum(fold.values[name] for fold in folds) / len(folds) for name in folds[0].values
        }

    @property
    def seconds(self) -> float:
        """Time spent in training, without attempts that were interrupted."""
        return sum(fold.seconds for fold in self.folds.values())

    def with_fold(self, index: int, fold: FoldRecord) -> TrialRecord:
        """The trial with one fold's record replaced."""
        return replace(self, folds={**self.folds, index: fold})

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values; `value` is that of the first objective."""
        values = self.values if self.state == "COMPLETE" else {}
        return {
            "number": self.number,
            "state": self.state,
            "params": dict(self.params),
            "value": next(iter(values.values()), None),
            "values": values,
            "folds": {str(index): fold.as_json() for index, fold in self.folds.items()},
            "seconds": round(self.seconds, 3),
            "run_id": self.run_id,
            "error": self.error,
            "same_as": self.same_as,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """A study as it stands; `status` is stopped where some of its trials were not finished.

    `importance` by objective and setting, `cost`, `validation` (the best trial's first objective
    over all its validation subjects, which chose it) and `outer` (the results of the run's own
    setting and of the best one on the outer fold's test subjects) are described in `tuning.ending`.
    `unseen` is the fold whose test subjects the choice never saw; None where there is none.
    `tested_before` names the trials that were tested on these subjects when they were the best:
    what was seen of them may have guided whoever let the search go on. An `asynchronous` search
    hangs on the clock: begun anew, it may try other settings.
    """

    study: str
    run_id: str | None
    objectives: tuple[Objective, ...]
    trials: tuple[TrialRecord, ...]
    status: Literal["finished", "stopped"]
    seconds: float
    asynchronous: bool = False
    unseen: str | None = None
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    outer: Mapping[str, Any] = field(default_factory=dict)
    tested_before: tuple[int, ...] = ()

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the best first objective; of equals, the earliest."""
        complete = [trial for trial in self.trials if trial.state == "COMPLETE"]
        if not complete:
            return None
        return max(complete, key=lambda trial: (_gains(trial, self.objectives)[0], -trial.number))

    @property
    def num_ended(self) -> int:
        """How many trials have an end."""
        return sum(trial.state in FINAL for trial in self.trials)

    @property
    def front(self) -> tuple[TrialRecord, ...]:
        """The complete trials that no other is better than in every objective."""
        return front_of(self.trials, self.objectives)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        best = self.best
        return {
            "study": self.study,
            "run_id": self.run_id,
            "status": self.status,
            "asynchronous": self.asynchronous,
            "unseen": self.unseen,
            "objectives": [item.name for item in self.objectives],
            "best": best and best.as_json(),
            "front": [trial.number for trial in self.front],
            "importance": {name: dict(shares) for name, shares in self.importance.items()},
            "cost": dict(self.cost),
            "validation": dict(self.validation),
            "outer": dict(self.outer),
            "tested_before": list(self.tested_before),
            "trials": [trial.as_json() for trial in self.trials],
            "seconds": round(self.seconds, 3),
        }


def front_of(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> tuple[TrialRecord, ...]:
    """The complete trials that no other is better than in every objective."""
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    gains = [_gains(trial, objectives) for trial in complete]
    return tuple(
        trial
        for trial, gain in zip(complete, gains, strict=True)
        if not any(_dominates(other, gain) for other in gains)
    )


def _gains(trial: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The objectives' values, turned so that more is better."""
    return tuple(trial.values[item.name] * (1 if item.maximizes else -1) for item in objectives)


def _dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    pairs = list(zip(left, right, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

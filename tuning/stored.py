"""What Optuna keeps of a study: how a setting's record is written, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.databases import Where, opened, shown
from tuning.objectives import Direction, Objective
from tuning.results import FoldRecord, TrialRecord

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def latest_of(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Of each setting, by number, the attempt that counts: the last, or one that came to its end.

    A setting is queued twice where the answer to it was lost on its way from the database.
    """
    latest: dict[int, FrozenTrial] = {}
    for trial in trials:
        number = trial.user_attrs["number"]
        if number not in latest or latest[number].state not in _ENDED:
            latest[number] = trial
    return dict(sorted(latest.items()))


def folds_json(record: TrialRecord) -> dict[str, Any]:
    """The folds as JSON values."""
    return {str(index): fold.as_json() for index, fold in record.folds.items()}


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A trial as Optuna has it, read back."""
    kept = trial.user_attrs
    folds = {int(index): FoldRecord.from_json(fold) for index, fold in kept["folds"].items()}
    return TrialRecord(
        number=kept["number"],
        params=kept["params"],
        state=TrialState(trial.state).name,
        folds=folds,
        run_id=kept.get("run_id"),
        error=kept.get("error"),
        deaths=kept["deaths"],
        same_as=kept.get("same_as"),
    )


def read_study(where: Where, name: str) -> tuple[tuple[TrialRecord, ...], dict[str, Any]]:
    """The records of a study, and what was kept with it; `objective` is the first one.

    ValueError where the file or database has no such study, or cannot be read.
    """
    try:
        with opened(where) as storage:
            study = optuna.load_study(study_name=name, storage=storage)
            latest = latest_of(study.get_trials(deepcopy=False))
            kept, direction = study.user_attrs, study.directions[0].name.lower()
        first = kept["identity"]["objectives"].split(", ")[0]
    except KeyError:
        raise ValueError(
            f"{shown(where)} cannot be used as a study: it holds none of mien's named '{name}'"
        ) from None
    way: Direction = "maximize" if direction == "maximize" else "minimize"
    objective = Objective(name=first, direction=way, capability=None)
    return tuple(map(record_of, latest.values())), {**kept, "objective": objective}

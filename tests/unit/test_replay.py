"""The replay of searches, on a table that was made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.replay import (
    in_shared_folds,
    read_table,
    replayed,
    searched,
    spread,
    trained,
    write_table,
)
from tuning.results import FoldRecord, TrialRecord

SUBJECTS = 60


def table(num_settings: int = 12, folds: int = 5) -> list[TrialRecord]:
    """Settings whose recall falls by two points each, over subjects that all share."""
    generator = np.random.default_rng(0)
    hard = generator.random((folds, SUBJECTS))
    made = []
    for number in range(num_settings):
        records = {}
        for fold in range(folds):
            noise = generator.normal(0, 0.02, SUBJECTS)
            right = hard[fold] + noise < 0.8 - 0.02 * number
            subjects = {
                f"{fold} s{index}": ((index % 2, index % 2 if one else 1 - index % 2, 1),)
                for index, one in enumerate(right.tolist())
            }
            value = {"macro_recall": float(right.mean())}
            records[fold + 1] = FoldRecord(values=value, subjects=subjects, seconds=1.0)
        made.append(TrialRecord(number=number, params={"seed": number}, folds=records))
    return made


def test_pruning_spares_trainings_and_keeps_the_best() -> None:
    found = replayed(table(), 20)
    assert found["paired"]["median_gap"] == 0 and found["paired"]["best_lost"] == 0
    assert found["paired"]["median_share"] < 0.6
    assert found["search"]["median_share"] <= found["paired"]["median_share"]
    assert found["random"]["median_share"] <= found["search"]["median_share"]


def test_a_search_trains_the_first_to_its_end_and_prunes_what_is_worse() -> None:
    chosen, trials = searched(table(), list(range(12)), "paired")
    assert chosen == 0 and trials[0].state == "COMPLETE"
    assert trials[-1].state == "PRUNED" and len(trials[-1].folds) == 1


def test_what_lags_is_given_up_by_the_folds_ends_and_the_last_fold_is_trained_in_any_case() -> None:
    """The best setting learns slowest, of which the rule sees nothing."""
    made = [replace(trial, folds=dict(trial.folds)) for trial in table()]
    for trial in made:
        for index, fold in trial.folds.items():
            start = 0.1 if trial.number == 0 else 0.9
            trial.folds[index] = replace(  # pyright: ignore[reportIndexIssue]
                fold, curve=((100, start * fold.values["macro_recall"]),)
            )
    ended = [trained(made[number], [], "paired") for number in range(1, 5)]
    assert [trial.state for trial in ended] == ["COMPLETE"] * 4
    assert trained(made[0], ended, "search").state == "COMPLETE"
    worst = trained(made[11], ended, "search")
    assert (worst.state, len(worst.folds)) == ("PRUNED", 1)
    of_one = replace(made[11], folds={1: made[11].folds[1]})
    assert trained(of_one, ended, "search").state == "COMPLETE"


def test_the_best_is_also_judged_by_folds_that_did_not_choose_it() -> None:
    found = spread(table())
    assert found["best"] == {"seed": 0} and found["pooled"]["low"] > 0
    apart = found["pooled_in_folds_that_did_not_choose"]
    assert (
        apart["value"] > 0
        and apart["high"] - apart["low"] > found["pooled"]["high"] - (found["pooled"]["low"])
    )


def test_a_table_survives_the_disk(tmp_path: Path) -> None:
    write_table(tmp_path / "table.json", "a recipe", table())
    for read, made in zip(read_table(tmp_path / "table.json"), table(), strict=True):
        assert (read.params, dict(read.folds)) == (made.params, dict(made.folds))
    assert read_table(tmp_path / "none.json") == []


def test_a_table_that_is_not_whole_is_searched_in_the_folds_that_all_have() -> None:
    made = table()
    made[3] = replace(made[3], folds={k: v for k, v in made[3].folds.items() if k != 5})
    assert {tuple(trial.folds) for trial in in_shared_folds(made)} == {(1, 2, 3, 4)}
    assert in_shared_folds([]) == []

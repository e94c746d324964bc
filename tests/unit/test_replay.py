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
IMAGES = 2560


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
    found = replayed(table(), 20, IMAGES)
    assert found["paired"]["median_gap"] == 0 and found["paired"]["best_lost"] == 0
    assert found["paired"]["median_share"] < 0.6
    assert found["search"]["median_share"] <= found["paired"]["median_share"]
    assert found["random"]["median_share"] <= found["search"]["median_share"]


def test_a_search_trains_the_first_to_its_end_and_prunes_what_is_worse() -> None:
    chosen, trials, paid = searched(table(), list(range(12)), "paired", IMAGES)
    assert chosen == 0 and trials[0].state == "COMPLETE"
    assert trials[-1].state == "PRUNED" and len(trials[-1].folds) == 1
    assert paid == IMAGES * sum(len(trial.folds) for trial in trials)


def test_a_curve_is_judged_by_its_end() -> None:
    """The best setting learns slowest; the last one is given up at the end of its first fold."""
    made = [replace(trial, folds=dict(trial.folds)) for trial in table()]
    for trial in made:
        for index, fold in trial.folds.items():
            end, haste = fold.values["macro_recall"], 0.1 if trial.number == 0 else 0.9
            parts = tuple((IMAGES * part // 4, end * haste) for part in (1, 2, 3))
            curve = (*parts, (IMAGES, end))
            trial.folds[index] = replace(fold, curve=curve)  # pyright: ignore[reportIndexIssue]
    ended = [trained(made[number], [], "paired", IMAGES)[0] for number in range(1, 5)]
    assert [trial.state for trial in ended] == ["COMPLETE"] * 4
    trial, paid = trained(made[0], ended, "search", IMAGES)
    assert (trial.state, paid) == ("COMPLETE", 5 * IMAGES)
    trial, paid = trained(made[11], ended, "search", IMAGES)
    assert (trial.state, paid) == ("PRUNED", IMAGES)


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

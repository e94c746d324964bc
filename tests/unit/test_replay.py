"""The replay of searches, on a table that was made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.replay import paired, read_table, replayed, searched, write_table
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
    chosen, trials = searched(table(), list(range(12)), paired)
    assert chosen == 0 and trials[0].state == "COMPLETE"
    assert trials[-1].state == "PRUNED" and len(trials[-1].folds) == 1


def test_a_table_survives_the_disk(tmp_path: Path) -> None:
    write_table(tmp_path / "table.json", table())
    for read, made in zip(read_table(tmp_path / "table.json"), table(), strict=True):
        assert read.params == made.params
        for index, fold in read.folds.items():
            assert fold.curve == ((2560, fold.values["macro_recall"]),), "its end"
            assert replace(fold, curve=()) == made.folds[index]
    assert read_table(tmp_path / "none.json") == []

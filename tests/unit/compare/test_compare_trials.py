"""Trials of studies as rows: ranked by their objective, on the same validation folds."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from tests.compared import data_of, predictions, record, searched, studied, validated
from tuning import blocks, report
from tuning.compare import compare
from tuning.publish import publish
from tuning.rows import division_of, num_folds_of


def test_trials_are_ranked_by_validation_and_never_beside_tests(store):
    trials = [
        ("FINISHED", validated(0.6, 0.6)),
        ("FINISHED", validated(0.8, 0.8)),
        ("FAILED", validated(0.9, 0.9)),
        ("KILLED", validated(0.95)),
        ("RUNNING", validated(0.7)),
    ]
    studied(store, "search", "first", trials)
    record(store, "search", "fersnet", tested=predictions(0.9, 1, 2), fold="1/2")
    found = compare(store, "search")
    tested, seen = found.blocks
    assert tested.tested and not seen.tested
    assert [(row.rank, row.name, row.reached, row.verdict) for row in seen.rows] == [
        (1, "first trial 1", "", ""),
        (2, "first trial 0", "", ""),
        (None, "first trial 3 (pruned)", "1 of 2 folds", "pruned"),
        (None, "first trial 2 (failed)", "2 of 2 folds", ""),
        (None, "first trial 4 (not finished)", "1 of 2 folds", ""),
    ]
    folds = "folds all:1/2 all:2/2"
    about = f"validation only, by validation macro recall, {folds}, lake {'a' * 12}"
    assert seen.title == about
    assert any(note.startswith("only trials that came to their end") for note in found.notes)
    assert not any("left out" in note for note in found.notes), "their folds are shown"
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(report.table(found))
    text = console.export_text()
    assert "after 1 of 2 folds" in text and "verdict" not in text
    line = list(csv.DictReader(io.StringIO(report.csv(found))))[3]
    told = [line[name] for name in ("ending", "reached", "verdict")]
    assert told == ["pruned", "1 of 2 folds", "pruned"]


def test_trials_of_all_folds_and_of_some_are_one_block(store):
    trials = [("FINISHED", validated(0.6, 0.6, 0.6, folds=3))]
    trials += [("KILLED", validated(*[0.5 / count] * count, folds=3)) for count in (1, 2)]
    leaks = {f"all:{i}/3": f"fold all:{i}/3: {i} copies" for i in (1, 2, 3)}
    studied(store, "some folds", "study", trials, leaks=leaks)
    (block,) = compare(store, "some folds").blocks
    assert [row.reached for row in block.rows] == ["", "1 of 3 folds", "2 of 3 folds"]
    assert block.audit == "; ".join(leaks.values())


def test_a_search_that_was_stopped_may_go_on_with_what_it_closed(store):
    trials = [("FINISHED", validated(0.6, 0.6)), ("KILLED", validated(0.7))]
    studied(store, "halted", "study", trials, ended="KILLED")
    (block,) = compare(store, "halted").blocks
    last = block.rows[1]
    assert (last.rank, last.ending, last.verdict) == (None, "ended early", "")


def test_a_finished_trial_that_lacks_a_fold_has_no_rank(store):
    trials = [("FINISHED", validated(0.6, 0.6)), ("FINISHED", validated(0.7))]
    studied(store, "lacking", "study", trials)
    (block,) = compare(store, "lacking").blocks
    assert [(row.rank, row.ending) for row in block.rows] == [(1, ""), (None, "folds missing")]


def test_a_trial_pruned_in_its_only_fold_is_shown_without_rank_and_details(store, tmp_path):
    aims = {"objectives": "macro_recall"}
    study = record(store, "given up", "fersnet", kind="study", name="study", params=aims)
    for number, (status, value) in enumerate((("FINISHED", 0.6), ("KILLED", 0.7), ("KILLED", 0))):
        about = {"params": {"weight": number}, "status": status}
        own = {"name": f"trial {number}", "parent": study}
        trial = record(store, "given up", "fersnet", kind="trial", **own, **about)
        metrics = {"validation/macro_recall": value} if value else {}
        where = {"kind": "fold", "fold": "1/5", "parent": trial, "metrics": metrics}
        record(store, "given up", "fersnet", **where, **about)
    found = compare(store, "given up")
    (block,) = found.blocks
    assert [(row.rank, row.name, row.validation_macro_recall) for row in block.rows] == [
        (1, "study trial 0", 0.6),
        (None, "study trial 1 (pruned)", 0.7),
        (None, "study trial 2 (pruned)", None),
    ]
    assert [row.reached for row in block.rows] == ["", "no whole fold", "no whole fold"]
    assert [row.settings for row in block.rows] == [{"weight": str(number)} for number in range(3)]
    assert not any("left out" in note for note in found.notes)
    publish(store, found, tmp_path / "page.html")
    rows = data_of((tmp_path / "page.html").read_text())["rows"]
    assert [sorted(row["curves"]) for row in rows] == [["validation/macro_recall"], [], []]
    assert [row["ending"] for row in rows] == ["", "pruned", "pruned"]


def test_validations_of_different_folds_stand_apart(store):
    studied(store, "divided", "by-two", [("FINISHED", validated(0.6, 0.6))])
    studied(store, "divided", "by-three", [("FINISHED", validated(0.9, 0.9, 0.9, folds=3))])
    found = compare(store, "divided")
    assert sorted(row.study for block in found.blocks for row in block.rows) == [
        "by-three",
        "by-two",
    ]
    assert [len(block.rows) for block in found.blocks] == [1, 1]
    assert any("different folds" in note for note in found.notes)


def test_equal_trials_of_two_studies_are_two_rows_that_name_their_study(store):
    for name in ("first", "second"):
        studied(store, "studies", name, [("FINISHED", validated(0.6, 0.6))], params={"weight": 1})
    found = compare(store, "studies")
    (block,) = found.blocks
    assert sorted(row.name for row in block.rows) == ["first trial 0", "second trial 0"]
    (line, _) = csv.DictReader(io.StringIO(report.csv(found)))
    assert (line["study"], line["trial"]) == ("first", "trial 0")


@pytest.mark.parametrize(
    ("objectives", "first"),
    [("accuracy, images_per_second", 1), ("reconstruction", 0), ("edit_accuracy", 1)],
)
def test_trials_are_ordered_by_their_studys_objective(store, objectives, first):
    experiment = f"by {objectives}"
    trials = []
    for value in (0.3, 0.4):
        metrics = {"accuracy": value, "reconstruction": value, "edit_accuracy": value}
        trials.append(("FINISHED", {"1/5": {**metrics, "macro_recall": 1 - value}}))
    studied(store, experiment, "study", trials, objectives=objectives)
    (block,) = compare(store, experiment).blocks
    assert block.objectives[0] == f"validation {objectives.split(', ')[0]}"
    assert [row.trial for row in block.rows] == [f"trial {first}", f"trial {1 - first}"]
    best = block.rows[0].value_of(block.objectives[0])
    assert (best, block.rows[0].rank) == ((0.3, 0.4)[first], 1)


def test_every_study_is_ranked_by_its_own_objectives(store):
    for name, objectives in (("sure", "macro_recall, images_per_second"), ("fast", "accuracy")):
        metrics = {"1/5": {"macro_recall": 0.5, "accuracy": 0.6}}
        studied(store, "aims", name, [("FINISHED", metrics)], objectives=objectives)
    found = {block.rows[0].study: block.objectives for block in compare(store, "aims").blocks}
    assert found == {
        "sure": ("validation_macro_recall", "images_per_second"),
        "fast": ("validation accuracy",),
    }


@pytest.mark.parametrize("objective", ["macro_recall", "accuracy"])
def test_trials_are_ties_or_behind_and_without_predictions_stand_by_their_value(store, objective):
    experiment = f"searched by {objective}"
    searched(store, experiment, 0.9, 0.89, 0.5, None, objective=objective)
    found = compare(store, experiment)
    (block,) = found.blocks
    assert [row.verdict for row in block.rows] == ["best", "tie", "behind", ""]
    assert [row.rank for row in block.rows] == [1, 2, 3, 4]
    assert [row.evidence for row in block.rows] == ["validation"] * 4 and not block.tested
    assert block.title.startswith("validation only, by validation")
    best, _, _, bare = block.rows
    low, high = best.figure_bounds[block.objectives[0]]
    assert low < best.value_of(block.objectives[0]) < high
    assert bare.trial == "trial 3" and not bare.figure_bounds and not bare.num_faces
    assert [(pair.first, pair.second) for pair in block.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert any("guided choices" in note for note in found.notes)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(report.table(found))
    text, (low, _) = console.export_text(), best.figure_bounds["validation_macro_recall"]
    assert all(word in text for word in ("behind best", "tie", f"{100 * low:.1f}"))
    lines = list(csv.DictReader(io.StringIO(report.csv(found))))
    assert float(lines[0]["validation_macro_recall_low"]) < 0.9
    assert lines[3]["validation_macro_recall_low"] == "" and lines[2]["verdict"] == "behind"
    with pytest.raises(ValueError, match="nothing to say"):
        report.latex(found)


def test_a_pruned_trial_is_never_the_best_and_in_no_test(store):
    searched(store, "unpruned", 0.9, 0.5)
    study = searched(store, "with pruned", 0.9, 0.5)
    own = {"params": {"weight": 2}, "parent": study, "status": "KILLED"}
    trial = record(store, "with pruned", "fersnet", kind="trial", name="trial 2", **own)
    metrics = {"final/macro_recall": 1.0}
    where = {"kind": "fold", "fold": "all:1/2", "parent": trial, "params": {"weight": 2}}
    seen = predictions(1.0, 1, 2)
    record(store, "with pruned", "fersnet", seen=seen, metrics=metrics, **where)
    (plain,), (block,) = (compare(store, name).blocks for name in ("unpruned", "with pruned"))
    assert [row.verdict for row in block.rows] == ["best", "behind", "pruned"]
    assert block.pairs == plain.pairs
    pruned = block.rows[2]
    assert pruned.rank is None and pruned.p is None and not pruned.figure_bounds


def test_no_verdict_where_the_best_trial_has_no_predictions(store):
    searched(store, "lost", 0.2, 0.18, None)
    (block,) = compare(store, "lost").blocks
    assert block.rows[0].trial == "trial 2"
    assert not any(row.verdict for row in block.rows)
    assert [(pair.first, pair.second) for pair in block.pairs] == [(1, 2)]


def test_more_trials_than_are_read_are_said(store, monkeypatch):
    monkeypatch.setattr(blocks, "SEEN_ROWS", 2)
    searched(store, "many", 0.9, 0.8, 0.5)
    found = compare(store, "many")
    assert [row.verdict for row in found.blocks[0].rows] == ["best", "behind", ""]
    assert any("only the best 2 trials" in note for note in found.notes)


def test_inner_folds_of_one_search_are_one_row():
    assert division_of("1/10:2/5") == division_of("1/10:3/5") == "1/10:5"
    assert division_of("1/10:2/5") != division_of("2/10:2/5")
    assert division_of("2/5") == division_of("3/5") != division_of("3/10")
    assert division_of("official") == division_of("")
    names = ("1/10:2/5", "all:1/3", "2/5", "official")
    assert [num_folds_of(name) for name in names] == [5, 3, 1, 1]

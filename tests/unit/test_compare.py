"""Runs of an experiment as rows, blocks and verdicts; on a real store of made-up runs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from rich.console import Console

from cluster.home import runs_dir
from cluster.mlflow_store import ensure_store, experiment_id
from trainer.scorecard.evaluate import Predictions, write_predictions
from tuning import blocks, report
from tuning.compare import compare
from tuning.details import curve_of
from tuning.page import embedded, page
from tuning.publish import publish
from tuning.rows import division_of, num_folds_of

NUM_SUBJECTS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("MIEN_HOME", str(folder))
    yield f"sqlite:///{folder / 'mlflow.db'}"
    patch.undo()


def predictions(skill: float, fold: int, num_folds: int, seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(NUM_SUBJECTS), 8)
    labels = np.arange(len(subjects)) % 4
    right = generator.random(len(subjects)) < skill
    predicted = np.where(right, labels, (labels + 1) % 4)
    held = subjects % num_folds == fold - 1
    return Predictions(
        rows=np.flatnonzero(held),
        labels=labels[held],
        logits=np.eye(4, dtype=np.float32)[predicted[held]],
        subjects=np.array([f"s{subject}" for subject in subjects[held]]),
    )


def record(
    store, experiment, system, *, tested=None, seen=None, status="FINISHED", tags=None, **about
):
    """A run as `train` leaves it; `tested` and `seen` become its predictions."""
    client = ensure_store(store)
    tags = (tags or {}) | {
        "mien.kind": about.get("kind", "train"),
        "mien.system": system,
        "mien.recipe": "tiny",
        "mien.fold": about.get("fold", ""),
        "mien.lake_hash": about.get("lake", "a" * 16),
    }
    if "parent" in about:
        tags["mlflow.parentRunId"] = about["parent"]
    identity = experiment_id(client, store, experiment)
    name = about.get("name", system)
    run_id = client.create_run(identity, tags=tags, run_name=name).info.run_id
    params = {"seed": about.get("seed", 0), **about.get("params", {})}
    metrics = {"images_per_second": 100.0, **about.get("metrics", {})}
    client.log_batch(
        run_id,
        params=[Param(key, str(value)) for key, value in params.items()],
        metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
    )
    for name, said in (("predictions", tested), ("validation", seen)):
        if said is not None:
            folder = runs_dir() / run_id
            folder.mkdir(parents=True, exist_ok=True)
            write_predictions(said, folder / f"{name}.npz")
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def crossvalidated(store, experiment, system, skill, *, folds=3, seed=0, **about):
    parent = record(store, experiment, system, kind="crossval", **about)
    for fold in range(1, folds + 1):
        tested = predictions(skill, fold, folds, seed)
        where = {"kind": "fold", "fold": f"{fold}/{folds}", "parent": parent, "seed": seed}
        record(store, experiment, system, tested=tested, **where, **about)


@pytest.fixture(scope="module")
def ranked(store):
    for system, skill, seed in (("fersnet", 0.9, 1), ("rival", 0.89, 2), ("weak", 0.5, 3)):
        crossvalidated(store, "ranked", system, skill, seed=seed)
    record(store, "ranked", "fersnet", status="FAILED")
    return compare(store, "ranked")


def test_folds_are_one_row_over_all_subjects(ranked):
    (block,) = ranked.blocks
    best = block.rows[0]
    assert len(best.run_ids) == 3 and best.folds == ("1/3", "2/3", "3/3")
    assert (best.num_faces, best.num_subjects) == (480, 60)
    assert best.macro_recall.low < best.macro_recall.value < best.macro_recall.high
    assert best.images_per_second == 100.0


def test_a_tie_is_a_tie_and_a_loss_is_a_loss(ranked):
    verdicts = {row.system: row.verdict for row in ranked.blocks[0].rows}
    assert sorted(verdicts.values()) == ["behind", "best", "tie"]
    assert verdicts["weak.tiny"] == "behind"
    weak = ranked.blocks[0].rows[-1]
    assert weak.behind.low > 0.2 and weak.p < 0.01


def test_what_has_not_finished_is_said(ranked):
    assert any("1 of 10 runs have not finished" in note for note in ranked.notes)


def test_the_table_the_json_and_the_csv_tell_the_same(ranked):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(report.table(ranked))
    text = console.export_text()
    assert all(word in text for word in ("fersnet.tiny", "tie", "behind", "480 faces", "all pairs"))
    plain = json.loads(json.dumps(report.as_json(ranked)))
    (*_, last) = csv.DictReader(io.StringIO(report.csv(ranked)))
    assert float(last["macro_recall"]) == plain["blocks"][0]["rows"][-1]["macro_recall"]["value"]
    assert last["verdict"] == "behind"


def test_other_lakes_and_other_folds_are_not_ranked_together(store):
    crossvalidated(store, "apart", "fersnet", 0.9)
    crossvalidated(store, "apart", "other", 0.9, lake="b" * 16)
    record(store, "apart", "part", tested=predictions(0.9, 1, 3), fold="1/3")
    found = compare(store, "apart")
    assert [[row.system for row in block.rows] for block in found.blocks] == [
        ["fersnet.tiny"],
        ["other.tiny"],
        ["part.tiny"],
    ]
    assert any("different lakes" in note for note in found.notes)
    assert any("different faces" in note for note in found.notes)


def test_seeds_are_averaged_and_settings_tell_rows_apart(store):
    for seed in (0, 1):
        crossvalidated(store, "seeds", "fersnet", 0.8, seed=seed)
    changed = {"system.weights.identity": 0.5}
    crossvalidated(store, "seeds", "fersnet", 0.6, params=changed)
    (block,) = compare(store, "seeds").blocks
    assert [len(row.run_ids) for row in block.rows] == [6, 3]
    assert block.rows[0].num_faces == 480
    assert block.rows[1].settings == {"system.weights.identity": "0.5"}


def test_three_seeds_are_of_the_same_faces(store):
    for seed in (0, 1, 2):
        crossvalidated(store, "three", "fersnet", 0.8, seed=seed)
    crossvalidated(store, "three", "other", 0.5)
    (block,) = compare(store, "three").blocks
    assert [row.verdict for row in block.rows] == ["best", "behind"]


def test_what_a_run_started_from_tells_rows_apart(store):
    crossvalidated(store, "first", "fersnet", 0.8)
    crossvalidated(store, "first", "fersnet", 0.7, tags={"mien.init": "a run"})
    (block,) = compare(store, "first").blocks
    assert [len(row.run_ids) for row in block.rows] == [3, 3]
    assert block.rows[1].settings == {"init": "a run"}


def studied(
    store,
    experiment,
    name,
    trials,
    *,
    objectives="macro_recall",
    params=None,
    leaks=None,
    ended="FINISHED",
):
    """A study whose trials are (status, metrics by fold); `leaks` are by fold, too."""
    leaks = leaks or {}
    tags = {"mien.leaks": "; ".join(leaks.values()) or "none"}
    about = {"params": {"objectives": objectives}, "tags": tags, "status": ended}
    study = record(store, experiment, "fersnet", kind="study", name=name, **about)
    for number, (status, folds) in enumerate(trials):
        own = params or {"weight": number}
        about = {"name": f"trial {number}", "parent": study, "params": own, "status": status}
        trial = record(store, experiment, "fersnet", kind="trial", **about)
        for fold, metrics in folds.items():
            tags = {"mien.leaks": leaks.get(fold, "none")}
            where = {"kind": "fold", "fold": fold, "parent": trial, "params": own, "tags": tags}
            metrics = {f"final/{name}": value for name, value in metrics.items()}
            record(store, experiment, "fersnet", metrics=metrics, **where)


def data_of(text):
    """What the page with this text shows."""
    return json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.DOTALL)[1])


def validated(*values, folds=2):
    """Metrics by fold of a trial with these values."""
    return {f"all:{i}/{folds}": {"macro_recall": value} for i, value in enumerate(values, 1)}


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


def test_systems_that_do_not_recognise_are_tested_and_ranked_with_intervals(store):
    for value in (0.4, 0.6):
        for fold in (1, 2):
            figures = {"": value, "_low": value - 0.1, "_high": value + 0.2}
            metrics = {f"test/synthesis/edit_accuracy{end}": one for end, one in figures.items()}
            where = {"kind": "fold", "fold": f"{fold}/2", "params": {"weight": value}}
            record(store, "edits", "exprgan", metrics=metrics, **where)
    record(store, "edits", "exprgan", fold="1/2", params={"weight": 1})
    found = compare(store, "edits")
    block, unranked = found.blocks
    assert [(row.rank, row.settings["weight"]) for row in block.rows] == [(1, "0.6"), (2, "0.4")]
    low, high = block.rows[0].figure_bounds["synthesis/edit_accuracy"]
    assert (low, high) == pytest.approx((0.6 - 0.1 / math.sqrt(2), 0.6 + 0.2 / math.sqrt(2)))
    assert "validation only" not in block.title and not block.tested
    assert unranked.rows[0].rank is None and not unranked.objectives
    assert "validation only, not ranked" in unranked.title
    text = report.latex(found)
    assert r"synthesis/edit\_accuracy" in text and "$0.6$ [$0.529$" in text
    assert "synthesis/edit_accuracy 0.6 [0.529289, 0.741421]" in report.csv(found)


def test_seeds_share_the_uncertainty_of_their_subjects(store):
    for seed in (0, 1):
        metrics = {"test/pose": 0.5, "test/pose_low": 0.4, "test/pose_high": 0.6}
        record(store, "sure", "exprgan", metrics=metrics, fold="1/2", seed=seed)
    (block,) = compare(store, "sure").blocks
    assert block.rows[0].figure_bounds["pose"] == pytest.approx((0.4, 0.6))


def test_predictions_come_from_the_artifacts_where_the_directory_is_not_here(store, tmp_path):
    run_id = record(store, "elsewhere", "fersnet", metrics={"test/accuracy": 0.9})
    write_predictions(predictions(0.9, 1, 3), tmp_path / "predictions.npz")
    ensure_store(store).log_artifact(run_id, str(tmp_path / "predictions.npz"))
    (block,) = compare(store, "elsewhere").blocks
    assert block.rows[0].num_faces == 160


def searched(store, experiment, *skills, objective="macro_recall"):
    """A study of trials of two folds, each with predictions of its skill, None for without any."""
    study = record(store, experiment, "fersnet", kind="study", params={"objectives": objective})
    for number, skill in enumerate(skills):
        own = {"weight": number}
        name = f"trial {number}"
        trial = record(
            store, experiment, "fersnet", kind="trial", name=name, parent=study, params=own
        )
        for fold in (1, 2):
            seen = None if skill is None else predictions(skill, fold, 2, seed=number)
            value = 0.3 if seen is None else float(np.mean(seen.predicted == seen.labels))
            metrics = {"final/macro_recall": value, "final/accuracy": value}
            where = {"kind": "fold", "fold": f"all:{fold}/2", "parent": trial, "params": own}
            record(store, experiment, "fersnet", seen=seen, metrics=metrics, **where)
    return study


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


def test_mlflow_is_asked_for_the_predictions_of_those_runs_alone_that_tell_of_some(
    store, monkeypatch
):
    searched(store, "asked", None, None)
    record(store, "asked", "other", fold="1/2", metrics={"test/pose": 0.5})
    told = record(store, "asked", "fersnet", fold="1/2", metrics={"test/accuracy": 0.5})
    asked = []
    list_artifacts = MlflowClient.list_artifacts
    monkeypatch.setattr(
        MlflowClient,
        "list_artifacts",
        lambda client, run_id, *path: asked.append(run_id) or list_artifacts(client, run_id, *path),
    )
    compare(store, "asked")
    assert asked == [told]


def test_one_seed_is_said_to_be_one(store, ranked):
    for seed in (0, 1):
        crossvalidated(store, "two seeds", "fersnet", 0.8, seed=seed)
    assert not any("one seed" in note for note in compare(store, "two seeds").notes)
    assert sum("one seed" in note for note in ranked.notes) == 1


def test_wrong_input_is_one_clear_line(store, tmp_path):
    client = ensure_store(store)
    experiment_id(client, store, "empty")
    with pytest.raises(ValueError, match=r"no experiment 'nonsense' .*there are: .*empty"):
        compare(store, "nonsense")
    with pytest.raises(ValueError, match="'empty' has no runs"):
        compare(store, "empty")
    record(store, "young", "fersnet", status="RUNNING")
    with pytest.raises(ValueError, match=r"no run .* has finished yet"):
        compare(store, "young")
    record(store, "hollow", "fersnet", kind="crossval")
    record(store, "hollow", "")
    with pytest.raises(ValueError, match="runs of the experiment 'hollow' have no folds: there ar"):
        compare(store, "hollow")
    with pytest.raises(ValueError, match="nothing has been recorded"):
        compare(f"sqlite:///{tmp_path / 'none.db'}", "mien")


def test_any_two_rows_are_compared_and_corrected_for_their_number(ranked):
    (block,) = ranked.blocks
    assert [(pair.first, pair.second) for pair in block.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert [row.p for row in block.rows[1:]] == [pair.p for pair in block.pairs[:2]]
    assert [pair.told_apart for pair in block.pairs] == [False, True, True]
    assert all(pair.p >= pair.difference.p for pair in block.pairs)
    console = Console(width=140, record=True, file=io.StringIO())
    for shown in report.pairs(ranked):
        console.print(shown)
    assert "tie" in console.export_text()


def test_latex_names_ties_and_escapes(ranked, store):
    text = report.latex(ranked)
    assert text.count(r"\begin{tabular}") == 1 and "(tie)" in text and "jackknife" in text
    crossvalidated(store, "odd", "a_b%c", 0.9)
    assert r"a\_b\%c" in report.latex(compare(store, "odd"))
    trial = {"kind": "fold", "metrics": {"validation/macro_recall": 0.5}}
    record(store, "untested", "fersnet", **trial)
    with pytest.raises(ValueError, match="nothing to say"):
        report.latex(compare(store, "untested"))


def test_audits_are_not_ranked_together(store):
    for audit in ("none", "fold 1/3: 2 copies"):
        run_id = record(store, "audits", "fersnet", tested=predictions(0.9, 1, 3), fold="1/3")
        ensure_store(store).set_tag(run_id, "mien.leaks", audit)
        ensure_store(store).log_param(run_id, "audit", audit)
    found = compare(store, "audits")
    assert len(found.blocks) == 2
    assert any("leaks" in note for note in found.notes)


def test_a_row_has_the_leaks_of_all_its_folds(store):
    for fold, leaks in ((1, "none"), (2, "fold 2/2: 3 subjects")):
        tested = predictions(0.9, fold, 2)
        where = {"fold": f"{fold}/2", "tags": {"mien.leaks": leaks}}
        record(store, "leaky", "fersnet", tested=tested, **where)
    found = compare(store, "leaky")
    (block,) = found.blocks
    assert block.audit == "fold 2/2: 3 subjects"
    (line,) = csv.DictReader(io.StringIO(report.csv(found)))
    assert line["leaks"] == "fold 2/2: 3 subjects"
    text = report.latex(found)
    assert "leaks between training and test: fold 2/2: 3 subjects" in text


def test_settings_that_a_study_chose_by_the_test_are_a_row_of_their_own(store):
    for leaks in ("none", "study s chose by these test subjects"):
        tested = predictions(0.9, 1, 2)
        where = {"fold": "1/2", "tags": {"mien.leaks": leaks}}
        record(store, "chosen", "fersnet", tested=tested, **where)
    found = compare(store, "chosen")
    audits = [block.audit for block in found.blocks]
    assert audits == ["", "study s chose by these test subjects"]


@pytest.mark.parametrize(
    "pools",
    [
        ({"mien.synthetic": "a", "mien.synthetic_hash": "1" * 16},
         {"mien.synthetic": "a", "mien.synthetic_hash": "2" * 16}),
        ({"mien.synthetic": "live:one"}, {"mien.synthetic": "live:two"}),
    ],
)  # fmt: skip
def test_pools_of_synthetic_faces_tell_rows_apart(store, pools):
    experiment = f"pools {len(pools[0])}"
    for seed, tags in enumerate(pools):
        crossvalidated(store, experiment, "fersnet", 0.8, seed=seed, tags=tags)
    (block,) = compare(store, experiment).blocks
    assert [len(row.run_ids) for row in block.rows] == [3, 3]
    assert len({row.settings["synthetic"] for row in block.rows}) == 2


def test_folds_with_a_pool_each_are_one_row(store):
    for fold in (1, 2):
        tags = {"mien.synthetic": f"pool-{fold}", "mien.synthetic_hash": str(fold) * 16}
        where = {"fold": f"{fold}/2", "tags": tags}
        record(store, "own pools", "fersnet", tested=predictions(0.9, fold, 2), **where)
    (block,) = compare(store, "own pools").blocks
    assert [row.folds for row in block.rows] == [("1/2", "2/2")]


def test_precision_tells_rows_apart_and_the_number_of_workers_does_not(store):
    for number, precision in enumerate(("fp32", "fp32", "bf16")):
        params = {"engine.precision": precision, "engine.workers": number + 1}
        crossvalidated(store, "precise", "fersnet", 0.8, seed=number, params=params)
    (block,) = compare(store, "precise").blocks
    found = {row.settings["engine.precision"]: len(row.run_ids) for row in block.rows}
    assert found == {"fp32": 6, "bf16": 3}


def test_the_page_has_everything_in_it_and_is_kept(store, tmp_path):
    crossvalidated(store, "paged", "fersnet", 0.9, metrics={"validation/macro_recall": 0.8})
    found = compare(store, "paged")
    for _ in range(2):
        publish(store, found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "http" not in text.replace("http-equiv", "") and "src=" not in text
    data = data_of(text)
    (row,) = data["rows"]
    assert row["confusion"]["classes"] and row["curves"]["validation/macro_recall"]["mean"] == [0.8]
    assert sum(map(sum, row["confusion"]["counts"])) == 480
    client = ensure_store(store)
    runs = client.search_runs([client.get_experiment_by_name("paged").experiment_id])
    (kept,) = [run for run in runs if run.data.tags["mien.kind"] == "comparison"]
    assert [item.path for item in client.list_artifacts(kept.info.run_id)] == ["page.html"]
    assert compare(store, "paged").blocks[0].rows == found.blocks[0].rows
    with pytest.raises(ValueError, match="no folder"):
        publish(store, found, tmp_path / "none" / "page.html")


def test_curves_of_folds_are_one_with_a_band():
    curve = curve_of([{0: 0.0, 10: 1.0}, {0: 0.2, 5: 0.4, 10: 0.6}, {0: math.nan}])
    assert curve.x == (0, 5, 10)
    assert curve.mean == pytest.approx((0.1, 0.45, 0.8))
    assert curve.low == (0.0, 0.4, 0.6) and curve.high == (0.2, 0.5, 1.0)
    assert curve_of([{}]) is None


def test_inner_folds_of_one_search_are_one_row():
    assert division_of("1/10:2/5") == division_of("1/10:3/5") == "1/10:5"
    assert division_of("1/10:2/5") != division_of("2/10:2/5")
    assert division_of("2/5") == division_of("3/5") != division_of("3/10")
    assert division_of("official") == division_of("")
    names = ("1/10:2/5", "all:1/3", "2/5", "official")
    assert [num_folds_of(name) for name in names] == [5, 3, 1, 1]


def test_no_name_of_an_experiment_takes_the_place_of_a_part_of_the_page(ranked):
    rows = data_of(page(ranked, {}))["rows"]
    for name in ("{{data}}", "{{title}} {{script}}", "{{none}}"):
        text = page(replace(ranked, experiment=name), {})
        assert f"<title>{name}: comparison</title>" in text
        found = data_of(text)
        assert found["title"] == f"{name}: comparison" and found["rows"] == rows


def test_what_stands_in_a_script_cannot_end_it():
    assert embedded({"a": "</script>"}) == '{"a":"\\u003c/script>"}'


@pytest.mark.parametrize(
    ("system", "figure"),
    [
        ("identity", "identification/rank_1"),
        ("paw", "attributes/accuracy"),
        ("pixel_fes", "synthesis/edit_accuracy"),
    ],
)
def test_what_was_trained_without_a_study_is_ordered_by_what_it_is_for(store, system, figure):
    for value in (0.2, 0.4):
        metrics = {f"test/{figure}": value, "final/images_per_second": 1 / value}
        record(store, system, system, metrics=metrics, fold="1/2", params={"weight": value})
    (block,) = compare(store, system).blocks
    assert block.objectives == (figure,)
    assert [(row.rank, row.value_of(figure)) for row in block.rows] == [(1, 0.4), (2, 0.2)]

"""Tested runs of an experiment as rows, blocks and verdicts; on a real store of made-up runs."""

from __future__ import annotations

import csv
import io
import math

import pytest
from mlflow import MlflowClient
from rich.console import Console

from cluster.mlflow_store import ensure_store, experiment_id
from tests.compared import crossvalidated, predictions, record, searched
from trainer.scorecard.evaluate import write_predictions
from tuning import report
from tuning.compare import compare


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

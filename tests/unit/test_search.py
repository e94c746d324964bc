"""What a search proposes, keeps, and does again after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from optuna.distributions import FloatDistribution

from tests.studies import (
    PLAN,
    RUN,
    Interrupted,
    essence,
    in_steps,
    quality,
    setup_of,
    train,
    work_on,
)
from trainer import catalog
from trainer.config import RunConfig, to_dict
from trainer.overrides import with_overrides
from trainer.steps import to_its_end
from tuning.ending import cost_of, importance
from tuning.results import FoldRecord, TrialRecord
from tuning.search import search
from tuning.studies import Best, best_of, study_name
from tuning.study import Study
from tuning.trial import evaluate


def test_trial_0_is_the_runs_own_setting(tmp_path: Path) -> None:
    records = work_on(tmp_path / "a.db", trials=3)
    assert records[0].params == PLAN.own
    assert [record.number for record in records] == [0, 1, 2]
    assert all(record.state == "COMPLETE" for record in records)


def test_an_own_setting_outside_the_space_is_tried_all_the_same(tmp_path: Path) -> None:
    plan = replace(PLAN, own={"system.gate": True})
    records = work_on(tmp_path / "a.db", plan, trials=5)
    assert records[0].params == {"system.gate": True}
    assert records[0].values == {"macro_recall": quality(RUN, 1)}
    assert all(set(record.params) == set(PLAN.distributions) for record in records[1:])


@pytest.mark.parametrize("num_folds", [1, 6])
def test_killed_and_resumed_equals_left_alone(tmp_path: Path, num_folds: int) -> None:
    plan = replace(PLAN, num_folds=num_folds)
    alone = work_on(tmp_path / "alone.db", plan, trials=13)
    finished: list[Any] = []
    budget = [0]

    def killed(run: RunConfig, lake: Path, **rest: Any) -> Any:
        budget[0] -= 1
        if budget[0] == 0:
            raise Interrupted
        result = train(run, lake, **rest)
        finished.append((run.system, rest["fold"]))
        return result

    kills = 0
    for budget[0] in (1, 2, 3, 2, 100):
        try:
            records = work_on(tmp_path / "killed.db", plan, trials=13, train=killed)
        except Interrupted:
            kills += 1
    assert kills == 4 and essence(records) == essence(alone)
    assert len(finished) == sum(len(record.folds) for record in alone), "a fold was trained twice"
    stored = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'killed.db'}")
    states = [trial.state.name for trial in stored.get_trials()]
    assert "RUNNING" not in states and states.count("FAIL") == kills


def test_a_kill_within_a_curve_repeats_its_decision(tmp_path: Path) -> None:
    alone = work_on(tmp_path / "alone.db", trials=13)

    def killed(run: RunConfig, lake: Path, *, on_validation: Any, **rest: Any) -> Any:
        def kill(images: int, metrics: Mapping[str, float]) -> bool:
            if on_validation(images, metrics):
                raise Interrupted
            return False

        return train(run, lake, on_validation=kill, **rest)

    for _ in range(20):
        try:
            records = work_on(tmp_path / "killed.db", trials=13, train=killed)
            break
        except Interrupted:
            continue
    assert essence(records) == essence(alone)


def test_more_trials_go_on_where_a_part_of_a_generation_was_asked_for(tmp_path: Path) -> None:
    plan = replace(PLAN, generation_size=4)
    whole = work_on(tmp_path / "whole.db", plan, trials=18)
    for trials in (3, 6, 14, 18):
        parts = work_on(tmp_path / "parts.db", plan, trials=trials)
    assert essence(parts) == essence(whole)


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_no_slot_waits_for_the_slowest_trial_of_a_generation(
    tmp_path: Path, sampler: Literal["gp", "tpe"]
) -> None:
    """Of every four trials one slot is long at the first; the other does all it may meanwhile."""
    plan = replace(PLAN, sampler=sampler, num_folds=3)
    alone = work_on(tmp_path / "alone.db", plan, trials=20)
    ahead = []
    for _ in range(20):  # the study is opened anew each time, as after a kill
        study = Study(tmp_path / "a.db", plan, trials=20)

        def finish(task: TrialRecord, study: Study = study) -> None:
            to_its_end(evaluate(study, task, setup_of(plan, tmp_path), in_steps(train)))

        slow = study.pull(0)
        if not isinstance(slow, TrialRecord):
            break
        while isinstance(task := study.pull(1), TrialRecord):
            ahead.append(task.number - slow.number)
            finish(task)
        finish(slow)
        study.close()
    assert essence(study.records()) == essence(alone)
    assert {record.state for record in alone} == {"COMPLETE", "PRUNED"}
    assert max(ahead) == 3, "two generations of two trials, and no further"
    study.close()


def test_a_study_keeps_its_generations_when_resumed_with_other_slots(tmp_path: Path) -> None:
    whole = work_on(tmp_path / "whole.db", trials=8)
    work_on(tmp_path / "parts.db", trials=3)
    parts = work_on(tmp_path / "parts.db", replace(PLAN, generation_size=5), trials=8)
    assert essence(parts) == essence(whole)


def test_a_fold_of_an_earlier_version_is_read_without_its_subjects() -> None:
    kept = FoldRecord(values={"macro_recall": 0.5}, subjects={"s": ((0, 1, 2),)})
    assert FoldRecord.from_json(kept.as_json()) == kept
    old = {**kept.as_json(), "subjects": {"s": 0.25}}
    assert FoldRecord.from_json(old) == replace(kept, subjects={})


def test_conditional_settings_are_drawn_where_their_condition_is_met(tmp_path: Path) -> None:
    plan = replace(PLAN, conditions={"system.weights.pixel": ("system.gate", True)})
    records = work_on(tmp_path / "a.db", plan, trials=14)
    gates = [record.params["system.gate"] for record in records]
    assert True in gates and False in gates
    for record in records:
        assert ("system.weights.pixel" in record.params) == record.params["system.gate"]
    assert essence(work_on(tmp_path / "b.db", plan, trials=14)) == essence(records)


def test_an_asynchronous_search_proposes_from_all_that_has_ended(tmp_path: Path) -> None:
    plan = replace(PLAN, asynchronous=True, generation_size=4)
    study = Study(tmp_path / "a.db", plan, trials=3)
    tasks = [study.pull(slot) for slot in range(3)]
    assert [task.number for task in tasks if isinstance(task, TrialRecord)] == [0, 1, 2]
    assert isinstance(tasks[0], TrialRecord) and tasks[0].params == PLAN.own
    study.close()
    with pytest.raises(ValueError, match="another order: it has asynchronous, not gen"):
        Study(tmp_path / "a.db", PLAN, trials=3)


def test_the_best_of_a_study_becomes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    (tmp_path / "studies").mkdir()
    path = tmp_path / "studies" / "study.db"
    plan = replace(
        PLAN, distributions={"system.weights.identity": FloatDistribution(0, 10)}, own={}
    )
    with pytest.raises(ValueError, match="no study 'study'; studies: none yet"):
        best_of("study")
    study = Study(path, plan, trials=1)
    study.keep("origin", to_dict(catalog.recipe("fersnet.tiny")))
    study.keep("lake", "lakes/drawn")
    study.keep("unseen", "1/10")
    with pytest.raises(ValueError, match="no complete trial"):
        best_of("study")
    task = study.pull(0)
    assert isinstance(task, TrialRecord)
    study.end_fold(0, 1, FoldRecord(values={"macro_recall": 0.5}))
    study.finish(0, "COMPLETE")
    study.close()
    with pytest.raises(ValueError, match="has no complete trial '7'; complete are 0"):
        best_of("study:7")
    assert best_of("study:0") == best_of("study")
    best = best_of("study")
    assert best.run == catalog.recipe("fersnet.tiny") and best.lake == Path("lakes/drawn")
    assert (best.lake_hash, best.unseen) == ("0", "1/10")


def test_the_best_of_a_study_is_tested_on_subjects_that_its_choice_never_saw() -> None:
    best = Best(study="s", run=RUN, lake=Path("lake"), lake_hash="0", unseen="1/10")
    assert best.fold_on(None, None, allow_leaks=False) == ("1/10", None)
    assert best.fold_on(None, "1/10", allow_leaks=True) == ("1/10", None)
    with pytest.raises(ValueError, match="chose by subjects that fold 1/5 tests; leave --fold out"):
        best.fold_on(None, "1/5", allow_leaks=False)
    assert best.fold_on(None, "1/5", allow_leaks=True) == ("1/5", "s")
    none_left = replace(best, unseen=None)
    with pytest.raises(ValueError, match="none is left for a test; search with --outer K/N"):
        none_left.fold_on(None, "1/5", allow_leaks=False)
    assert none_left.fold_on(None, None, allow_leaks=True) == (None, "s")
    assert best.fold_on(None, "", allow_leaks=True) == ("", "s"), "it is not left out"


def test_folds_of_a_lake_with_an_official_split_leave_its_test_faces_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_service.ingest import ingest

    ingest("drawn", None, tmp_path / "lake", image_size=56, options={"subjects": 3})
    monkeypatch.setattr("tuning.search.default_fold", lambda lake: "official")
    with pytest.raises(ValueError, match="search on its test faces; leave --folds out, or give"):
        search(
            catalog.recipe("baseline.tiny"),
            tmp_path / "lake",
            trials=2,
            folds=5,
            search=["seed=1,2"],
        )


def test_what_the_variant_cannot_do_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    alone = catalog.recipe("fersnet.small_single_task")
    valid = "valid: macro_recall, accuracy, images_per_second"
    with pytest.raises(ValueError, match=f"unknown objective 'edit_accuracy' of fersnet; {valid}"):
        search(alone, tmp_path / "none", trials=2, objectives=["edit_accuracy"])


@pytest.mark.parametrize(
    ("recipe", "setting", "why"),
    [
        ("exprgan.tiny", "evaluation.select=accuracy", "every_images is 0, so that nothing is"),
        ("fersnet.tiny", "system.sharing=single", "has no synthesis branch; these weights must"),
    ],
)
def test_a_run_that_could_not_be_trained_is_not_searched(
    tmp_path: Path, recipe: str, setting: str, why: str
) -> None:
    from data_service.ingest import ingest

    ingest("drawn", None, tmp_path / "lake", image_size=56, options={"subjects": 4})
    run = with_overrides(catalog.recipe(recipe), dict([setting.split("=")]))
    with pytest.raises(ValueError, match=why):
        search(run, tmp_path / "lake", trials=2, folds=3, search=["seed=1,2"])


def test_the_gaussian_process_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    plan = replace(PLAN, sampler="gp", num_folds=5, generation_size=4)
    whole = work_on(tmp_path / "whole.db", plan, trials=18)
    work_on(tmp_path / "parts.db", plan, trials=14)
    assert essence(work_on(tmp_path / "parts.db", plan, trials=18)) == essence(whole)
    assert "PRUNED" in {record.state for record in whole}


def test_importance_and_cost_of_what_was_tried(tmp_path: Path) -> None:
    records = work_on(tmp_path / "a.db", trials=20)
    shares = importance(PLAN.distributions, PLAN.objectives, records)["macro_recall"]
    assert next(iter(shares)) == "system.weights.pixel" and sum(shares.values()) == pytest.approx(1)
    assert importance(PLAN.distributions, PLAN.objectives, records[:3]) == {}
    timed = [
        TrialRecord(number=0, params={}, state="COMPLETE", folds={1: FoldRecord(seconds=10)}),
        TrialRecord(number=1, params={}, state="PRUNED", folds={1: FoldRecord(seconds=4)}),
    ]
    cost = cost_of(timed)
    assert (cost.trainings, cost.seconds, cost.saved_seconds) == (2, 14, 6)
    assert cost.saved_share == pytest.approx(0.3)


def test_studies_are_numbered_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    assert study_name("exprgan.tiny", None, resume=False) == "exprgan.tiny-1"
    with pytest.raises(ValueError, match=r"no study of exprgan\.tiny yet; studies: none yet"):
        study_name("exprgan.tiny", None, resume=True)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "exprgan.tiny-1.db").touch()
    assert study_name("exprgan.tiny", None, resume=False) == "exprgan.tiny-2"
    assert study_name("exprgan.tiny", None, resume=True) == "exprgan.tiny-1"
    with pytest.raises(ValueError, match="exists; go on with --resume"):
        study_name("exprgan.tiny", "exprgan.tiny-1", resume=False)
    with pytest.raises(ValueError, match="cannot name a study"):
        study_name("exprgan.tiny", "../x", resume=False)

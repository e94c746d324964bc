"""The ledger of a search: what it proposes, gives up, keeps, and does again after a kill."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tests.studies import blank_database
from trainer import catalog
from trainer.config import RunConfig, knob, to_dict, weight
from trainer.scorecard.evaluate import Predictions, write_predictions
from trainer.scorecard.statistics import macro_recall
from trainer.steps import Steps
from trainer.tracking.tracker import TrackingError
from tuning import proposals
from tuning.ending import cost_of, importance
from tuning.objectives import Objective, measured, measuring, objectives_of
from tuning.plan import Plan
from tuning.pruning import lags_behind, worse_by_subjects
from tuning.results import FoldRecord, SearchResult, TrialRecord
from tuning.search import search
from tuning.studies import Best, best_of, study_name
from tuning.study import Study
from tuning.trial import Setup, Train, work

RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")
ERROR = Objective(name="reconstruction", direction="minimize", capability="synthesise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    pixel: float = weight(1.0, paper="lambda_1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    weights: Weights = Weights()
    gate: bool = knob(True)


RUN = RunConfig(system_name="fake", recipe="tiny", system=Settings())
PLAN = Plan(
    name="study",
    distributions={
        "system.weights.pixel": FloatDistribution(0.0, 10.0),
        "system.gate": CategoricalDistribution([False, True]),
    },
    own={"system.weights.pixel": 1.0, "system.gate": True},
    objectives=(RECALL,),
    num_folds=1,
    generation_size=2,
    seed=3,
    about={"run": "0", "lake": "0"},
    sampler="tpe",
)


class Interrupted(BaseException):
    """Stands for a kill: nothing below may catch it."""


def quality(run: RunConfig, fold: int) -> float:
    """Best at a weight of 4, a little different in every fold."""
    return math.exp(-((run.system.weights.pixel - 4) ** 2) / 8) + 0.01 * fold


def train(run: RunConfig, lake: Path, *, fold: str | None, on_validation: Any, **_: Any) -> Any:
    """A training of ten validations whose curve rises to the setting's quality."""
    index = int((fold or "1/1").partition("/")[0])
    for step in range(1, 11):
        value = quality(run, index) * step / 10
        if on_validation(step * 100, {"macro_recall": value}):
            return SimpleNamespace(
                run_id="run",
                directory=Path(),
                status="pruned",
                validation={},
                images_per_second=1.0,
            )
    return SimpleNamespace(
        run_id="run",
        directory=Path(),
        status="finished",
        validation={"macro_recall": quality(run, index)},
        images_per_second=1.0,
    )


def in_steps(train: Callable[..., Any]) -> Train:
    """The training as one step."""

    def steps(*arguments: Any, **options: Any) -> Steps[Any]:
        yield
        return train(*arguments, **options)

    return steps


def work_on(
    path: Path,
    plan: Plan = PLAN,
    *,
    trials: int,
    train: Callable[..., Any] = train,
    lanes: int = 1,
) -> Any:
    if not path.exists():
        path.write_bytes(blank_database())
    study = Study(path, plan, trials=trials)
    setup = Setup(
        run=RUN,
        lake=path,
        lake_hash="0",
        experiment="mien",
        objectives=plan.objectives,
        num_folds=plan.num_folds,
        lanes=lanes,
    )
    try:
        work(study, 0, setup, in_steps(train), lambda trial: None)
        return study.records()
    finally:
        study.close()


def essence(records: tuple[TrialRecord, ...]) -> list[Any]:
    return [
        (record.number, dict(record.params), record.state, record.values, record.error)
        for record in records
    ]


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


def test_bad_trials_stop_early_and_are_never_complete(tmp_path: Path) -> None:
    records = work_on(tmp_path / "a.db", trials=16)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert pruned and all(not record.finished_folds for record in pruned)
    assert all(len(record.folds[1].curve) < 10 for record in pruned)
    stored = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'a.db'}")
    states = [trial.state.name for trial in stored.get_trials()]
    assert states.count("PRUNED") == len(pruned) and set(states) == {"PRUNED", "COMPLETE"}
    best = max(record.values.get("macro_recall", 0.0) for record in records)
    assert best == pytest.approx(1.01, abs=0.05)


def test_a_losing_trial_stops_between_folds(tmp_path: Path) -> None:
    def folds_only(run: RunConfig, lake: Path, *, fold: str, **_: Any) -> Any:
        value = quality(run, int(fold.partition("/")[0]))
        return SimpleNamespace(
            run_id="run",
            directory=Path(),
            status="finished",
            validation={"macro_recall": value},
            images_per_second=1.0,
        )

    records = work_on(tmp_path / "a.db", replace(PLAN, num_folds=6), trials=8, train=folds_only)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert pruned and all(4 <= len(record.finished_folds) < 6 for record in pruned)


@pytest.mark.parametrize("num_folds", [1, 6])
def test_killed_and_resumed_equals_left_alone(tmp_path: Path, num_folds: int) -> None:
    plan = replace(PLAN, num_folds=num_folds)
    alone = work_on(tmp_path / "alone.db", plan, trials=9)
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
            records = work_on(tmp_path / "killed.db", plan, trials=9, train=killed)
        except Interrupted:
            kills += 1
    assert kills == 4 and essence(records) == essence(alone)
    assert len(finished) == sum(len(record.folds) for record in alone), "a fold was trained twice"
    stored = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'killed.db'}")
    states = [trial.state.name for trial in stored.get_trials()]
    assert "RUNNING" not in states and states.count("FAIL") == kills


def test_a_kill_within_a_curve_repeats_its_decision(tmp_path: Path) -> None:
    alone = work_on(tmp_path / "alone.db", trials=9)

    def killed(run: RunConfig, lake: Path, *, on_validation: Any, **rest: Any) -> Any:
        def kill(images: int, metrics: Mapping[str, float]) -> bool:
            if on_validation(images, metrics):
                raise Interrupted
            return False

        return train(run, lake, on_validation=kill, **rest)

    for _ in range(20):
        try:
            records = work_on(tmp_path / "killed.db", trials=9, train=killed)
            break
        except Interrupted:
            continue
    assert essence(records) == essence(alone)


def test_more_trials_go_on_where_a_part_of_a_generation_was_asked_for(tmp_path: Path) -> None:
    plan = replace(PLAN, generation_size=4)
    whole = work_on(tmp_path / "whole.db", plan, trials=10)
    for trials in (3, 6, 10):
        parts = work_on(tmp_path / "parts.db", plan, trials=trials)
    assert essence(parts) == essence(whole)


def test_a_study_keeps_its_generations_when_resumed_with_other_slots(tmp_path: Path) -> None:
    whole = work_on(tmp_path / "whole.db", trials=8)
    work_on(tmp_path / "parts.db", trials=3)
    parts = work_on(tmp_path / "parts.db", replace(PLAN, generation_size=5), trials=8)
    assert essence(parts) == essence(whole)


def finished(run: RunConfig, directory: Path = Path(), **metrics: float) -> Any:
    return SimpleNamespace(
        run_id="run",
        directory=directory,
        status="finished",
        validation=metrics,
        images_per_second=1.0,
    )


def test_what_no_objective_is_better_in_is_given_up(tmp_path: Path) -> None:
    def two(run: RunConfig, lake: Path, **_: Any) -> Any:
        weight = run.system.weights.pixel
        return finished(run, macro_recall=-abs(weight - 4), reconstruction=abs(weight - 5))

    plan = replace(PLAN, objectives=(RECALL, ERROR), num_folds=4)
    records = work_on(tmp_path / "a.db", plan, trials=12, train=two)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert pruned and all(len(record.finished_folds) == 2 for record in pruned)
    front = [record for record in records if 4 <= record.params["system.weights.pixel"] <= 5]
    assert all(record.state == "COMPLETE" for record in front)


def test_a_losing_trial_stops_once_its_subjects_tell(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def by_subject(run: RunConfig, lake: Path, *, fold: str, **_: Any) -> Any:
        skill = quality(run, 0)
        right = generator.random(400) < 0.2 + 0.7 * skill
        labels = np.arange(400) % 2
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        logits = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
        subjects = np.array([f"{fold} s{index // 2}" for index in range(400)])
        kept = Predictions(rows=np.arange(400), labels=labels, logits=logits, subjects=subjects)
        write_predictions(kept, folder / "validation.npz")
        return finished(run, folder, macro_recall=float(right.mean()))

    plan = replace(PLAN, num_folds=5)
    records = work_on(tmp_path / "a.db", plan, trials=10, train=by_subject)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert any(len(record.finished_folds) == 1 for record in pruned)
    best = max(records, key=lambda record: quality(_as_run(record), 0))
    assert best.state == "COMPLETE"
    fold = best.folds[1]
    right = sum(n for own in fold.subjects.values() for true, said, n in own if true == said)
    assert right / 400 == pytest.approx(fold.values["macro_recall"])


def test_leaning_to_another_class_is_no_noise_where_subjects_are_paired() -> None:
    """Two settings, one better by a tenth within each class, that favour different classes."""
    faces = 60
    here = np.arange(2 * faces)
    labels = here % 2

    def confusions(chances: tuple[float, float]) -> np.ndarray:
        wrong = here // 2 % 10 >= 10 * np.take(chances, labels)
        counts_SKK = np.zeros((2 * faces, 2, 2), dtype=np.int64)
        counts_SKK[here, labels, np.where(wrong, 1 - labels, labels)] = 1
        return counts_SKK

    best, leaning, alike = confusions((0.9, 0.4)), confusions((0.2, 0.8)), confusions((0.8, 0.5))
    assert worse_by_subjects(leaning, best, macro_recall, num_folds=5)
    assert not worse_by_subjects(alike, best, macro_recall, num_folds=5)
    assert not worse_by_subjects(best, leaning, macro_recall, num_folds=5)
    assert not worse_by_subjects(leaning[:6], best[:6], macro_recall, num_folds=5), "too few"


def test_a_fold_of_an_earlier_version_is_read_without_its_subjects() -> None:
    kept = FoldRecord(values={"macro_recall": 0.5}, subjects={"s": ((0, 1, 2),)})
    assert FoldRecord.from_json(kept.as_json()) == kept
    old = {**kept.as_json(), "subjects": {"s": 0.25}}
    assert FoldRecord.from_json(old) == replace(kept, subjects={})


def _as_run(record: TrialRecord) -> RunConfig:
    weight = record.params["system.weights.pixel"]
    return replace(RUN, system=Settings(weights=Weights(pixel=weight)))


def test_a_trial_that_runs_out_of_memory_is_tried_again(tmp_path: Path) -> None:
    failures = [2]

    def starved(run: RunConfig, lake: Path, **rest: Any) -> Any:
        if not run.system.gate and failures[0]:
            failures[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(run, lake, **rest)

    records = work_on(tmp_path / "a.db", trials=8, train=starved)
    failed = [record for record in records if record.state == "FAIL"]
    assert len(failed) <= 1 and all("out of memory 2 times" in str(r.error) for r in failed)
    failures[0] = 1
    records = work_on(tmp_path / "b.db", trials=8, train=starved)
    assert failures[0] == 0 and all(record.state != "FAIL" for record in records)


def test_where_a_process_with_several_trainings_dies_none_of_them_is_to_blame(
    tmp_path: Path,
) -> None:
    study = Study(tmp_path / "a.db", replace(PLAN, generation_size=3), trials=3)
    numbers = []
    for _ in range(3):
        task = study.pull(slot=0)
        assert isinstance(task, TrialRecord)
        numbers.append(task.number)
    study.release(0)
    assert [(record.state, record.deaths) for record in study.records()] == [("WAITING", 0)] * 3
    assert isinstance(study.pull(slot=0), TrialRecord)
    assert study.pull(slot=0) == "wait", "one alone shows whose fault it was"
    assert isinstance(study.pull(slot=1), TrialRecord), "another slot keeps its lanes"
    study.release(0)
    assert [record.deaths for record in study.records()] == [1, 0, 0]
    study.close()


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
    with pytest.raises(ValueError, match="another order: it has asynchronous, not none"):
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


def test_a_search_that_loses_mlflow_stops_and_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    left = [3]

    def loses(run: RunConfig, lake: Path, **rest: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise TrackingError("MLflow at http://head:5000: no answer")
        return train(run, lake, **rest)

    stopped = work_on(tmp_path / "a.db", trials=6, train=loses)
    assert [record.state for record in stopped] == ["COMPLETE", "COMPLETE", "WAITING", "WAITING"]
    alone = work_on(tmp_path / "b.db", trials=6)
    assert essence(work_on(tmp_path / "a.db", trials=6)) == essence(alone)


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


def test_the_gaussian_process_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    plan = replace(PLAN, sampler="gp", num_folds=5, generation_size=4)
    whole = work_on(tmp_path / "whole.db", plan, trials=12)
    work_on(tmp_path / "parts.db", plan, trials=9)
    assert essence(work_on(tmp_path / "parts.db", plan, trials=12)) == essence(whole)
    assert "PRUNED" in {record.state for record in whole}


def noisy_trials(count: int, num_folds: int) -> list[TrialRecord]:
    """Trials of qualities 0.5, 0.51 and so on, in folds of unequal difficulty, with some noise."""
    noise = np.random.default_rng(0).normal(0, 0.01, (count, num_folds))
    return [
        TrialRecord(
            number=number,
            params={"system.weights.pixel": float(number), "system.gate": True},
            state="COMPLETE",
            folds={
                fold: FoldRecord(
                    values={"macro_recall": (end := 0.5 + 0.01 * number + 0.1 * fold + extra)},
                    curve=((100, end / 2), (200, end * 0.9)),
                )
                for fold, extra in enumerate(noise[number], 1)
            },
        )
        for number in range(count)
    ]


def test_a_curve_is_given_up_only_beyond_the_noise_of_a_fold() -> None:
    earlier = noisy_trials(7, 5)
    median = float(np.median([dict(past.folds[2].curve)[200] for past in earlier]))

    def lags(value: float, past: list[TrialRecord]) -> bool:
        curve = ((100, median / 2), (200, value))
        running = TrialRecord(number=9, params={}, folds={2: FoldRecord(curve=curve)})
        return lags_behind(running, 2, past, RECALL)

    assert not lags(median + 0.001, earlier) and not lags(median - 0.005, earlier)
    assert lags(median - 0.05, earlier)
    alone = [replace(past, folds={2: past.folds[2]}) for past in earlier]
    assert lags(median - 0.005, alone), "one fold tells nothing of its noise"
    assert not lags(median - 0.05, earlier[:3]), "three trials are too few"


def test_the_model_hears_of_a_curve_that_was_given_up_what_such_curves_end_with() -> None:
    plan = replace(PLAN, sampler="gp", num_folds=5)
    earlier = noisy_trials(7, 5)
    ends = sorted(past.values["macro_recall"] for past in earlier)

    def told(value: float) -> float:
        pruned = TrialRecord(
            number=7,
            params=earlier[0].params,
            state="PRUNED",
            folds={2: FoldRecord(curve=((100, value),))},
        )
        return proposals._told([*earlier, pruned], plan)[-1].value

    lowest = sorted(past.folds[2].curve[0][1] for past in earlier)
    assert told(0.0) == ends[0], "no worse than the worst"
    assert ends[1] <= told((lowest[1] + lowest[2]) / 2) <= ends[2]
    assert told(1.0) == ends[3], "never better than the median"


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


def test_a_failing_trial_is_told_so_and_the_search_goes_on(tmp_path: Path) -> None:
    def fails(run: RunConfig, lake: Path, **rest: Any) -> Any:
        if not run.system.gate:
            raise FloatingPointError("term pixel is nan\nin step 3")
        return train(run, lake, **rest)

    records = work_on(tmp_path / "a.db", trials=8, train=fails)
    failed = [record for record in records if not record.params["system.gate"]]
    assert failed and all(record.state == "FAIL" for record in failed)
    assert failed[0].error == "FloatingPointError: term pixel is nan"
    assert essence(work_on(tmp_path / "a.db", trials=8, train=fails)) == essence(records)


def test_what_would_meet_every_trial_ends_the_search_and_can_be_mended(tmp_path: Path) -> None:
    def refuses(run: RunConfig, lake: Path, **rest: Any) -> Any:
        raise ValueError("the lake has 64 px, the run wants 128")

    records = work_on(tmp_path / "a.db", trials=4, train=refuses)
    assert [record.state for record in records] == ["WAITING", "WAITING"]
    assert all(record.state == "COMPLETE" for record in work_on(tmp_path / "a.db", trials=4))


def test_a_setting_whose_process_dies_twice_is_given_up(tmp_path: Path) -> None:
    study = Study(tmp_path / "a.db", PLAN, trials=2)
    for _ in range(2):
        task = study.pull(slot=0)
        assert isinstance(task, TrialRecord) and task.number in (0, 1)
        other = study.pull(slot=1)
        assert isinstance(other, TrialRecord)
        study.release(0)
        study.release(1)
    assert [record.state for record in study.records()] == ["FAIL", "FAIL"]
    assert study.pull(slot=0) is None
    study.close()


def test_several_objectives_are_kept_whole(tmp_path: Path) -> None:
    def two(run: RunConfig, lake: Path, **_: Any) -> Any:
        weight = run.system.weights.pixel
        metrics = {"macro_recall": weight / 10, "reconstruction": weight / 5}
        return SimpleNamespace(
            run_id="run",
            directory=Path(),
            status="finished",
            validation=metrics,
            images_per_second=1.0,
        )

    plan = replace(PLAN, objectives=(RECALL, ERROR))
    records = work_on(tmp_path / "a.db", plan, trials=4, train=two)
    result = SearchResult(
        study="study",
        run_id=None,
        objectives=plan.objectives,
        trials=records,
        status="finished",
        seconds=0.0,
    )
    assert len(result.front) == 4
    assert result.best is max(records, key=lambda record: record.params["system.weights.pixel"])
    assert result.as_json()["best"]["values"]["reconstruction"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "another seed: it has 3, not 4"),
        ({"num_folds": 5}, "another folds: it has 1, not 5"),
        ({"about": {"run": "0", "lake": "1"}}, "another lake"),
        ({"objectives": (ERROR,)}, "another objectives"),
        ({"distributions": {"system.gate": CategoricalDistribution([False, True])}}, "space of"),
    ],
)
def test_a_study_of_another_search_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    Study(tmp_path / "a.db", PLAN, trials=2).close()
    with pytest.raises(ValueError, match=message):
        Study(tmp_path / "a.db", replace(PLAN, **change), trials=2)


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="cannot be used as a study: file is not a database"):
        Study(tmp_path / "a.db", PLAN, trials=2)


def test_a_database_that_is_locked_or_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.stored.BUSY_SECONDS", 0.05)
    path = tmp_path / "a.db"
    path.write_bytes(blank_database())
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match="cannot be used as a study: database is locked"):
            Study(path, PLAN, trials=2)
    with pytest.raises(ValueError, match="cannot be used as a study: unable to open"):
        Study(tmp_path / "gone" / "a.db", PLAN, trials=2)


def test_studies_are_numbered_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    assert study_name("exprgan.tiny", None, resume=False) == "exprgan.tiny-1"
    with pytest.raises(ValueError, match=r"no study .*; studies: none yet"):
        study_name("exprgan.tiny", None, resume=True)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "exprgan.tiny-1.db").touch()
    assert study_name("exprgan.tiny", None, resume=False) == "exprgan.tiny-2"
    assert study_name("exprgan.tiny", None, resume=True) == "exprgan.tiny-1"
    with pytest.raises(ValueError, match="exists; go on with --resume"):
        study_name("exprgan.tiny", "exprgan.tiny-1", resume=False)
    with pytest.raises(ValueError, match="cannot name a study"):
        study_name("exprgan.tiny", "../x", resume=False)


def test_objectives_by_what_a_system_can_do() -> None:
    spec: Any = SimpleNamespace(name="fake", capabilities=frozenset({"synthesise"}))
    assert [item.name for item in objectives_of(spec)] == ["edit_accuracy"]
    assert objectives_of(spec, ["reconstruction"]) == (ERROR,)
    names = "edit_accuracy, reconstruction, kernel_distance, identity_similarity, images_per_second"
    with pytest.raises(ValueError, match=f"valid: {names}"):
        objectives_of(spec, ["macro_recall"])


def test_an_objective_of_identity_asks_for_its_judge() -> None:
    spec: Any = SimpleNamespace(name="fake", capabilities=frozenset({"synthesise"}))
    aims = objectives_of(spec, ["kernel_distance", "identity_similarity"])
    assert [item.direction for item in aims] == ["minimize", "maximize"]
    assert measuring(RUN, aims).evaluation.identity
    assert measuring(RUN, aims[:1]) == RUN


def test_measured_values_are_of_validation_and_finite() -> None:
    assert measured([RECALL], {"macro_recall": 0.5, "accuracy": 0.7}, 9.0) == {"macro_recall": 0.5}
    with pytest.raises(ValueError, match="did not measure 'macro_recall'"):
        measured([RECALL], {"accuracy": 0.7}, 9.0)
    with pytest.raises(FloatingPointError, match="is nan"):
        measured([RECALL], {"macro_recall": math.nan}, 9.0)


def test_the_best_of_equals_is_the_earliest() -> None:
    trials = tuple(
        TrialRecord(
            number=number,
            params={},
            state="COMPLETE",
            folds={1: FoldRecord(values={"reconstruction": value})},
        )
        for number, value in enumerate([0.3, 0.2, 0.2])
    )
    result = SearchResult(
        study="study",
        run_id=None,
        objectives=(ERROR,),
        trials=trials,
        status="finished",
        seconds=0.0,
    )
    assert result.best is trials[1]

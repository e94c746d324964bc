"""Which trials of a search are given up early, and which are not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from tests.studies import ERROR, PLAN, RECALL, RUN, Settings, Weights, finished, quality, work_on
from trainer.config import RunConfig
from trainer.scorecard.evaluate import Predictions, write_predictions
from trainer.scorecard.statistics import macro_recall
from tuning import proposals
from tuning.objectives import Objective
from tuning.pruning import (
    FALSE_ALARMS,
    LEAST_FOLDS,
    ends_below,
    is_dominated,
    lags_behind,
    look_level,
    loses_on_folds,
    paired_subjects,
    worse_by_subjects,
)
from tuning.results import FoldRecord, State, TrialRecord


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
        value = quality(run, int(fold.removeprefix("all:").partition("/")[0]))
        return SimpleNamespace(
            run_id="run",
            directory=Path(),
            status="finished",
            validation={"macro_recall": value},
            images_per_second=1.0,
        )

    records = work_on(tmp_path / "a.db", replace(PLAN, num_folds=6), trials=8, train=folds_only)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert pruned and all(0 < len(record.finished_folds) < 6 for record in pruned)


def test_what_no_objective_is_better_in_is_given_up(tmp_path: Path) -> None:
    def two(run: RunConfig, lake: Path, **_: Any) -> Any:
        weight = run.system.weights.pixel
        return finished(run, macro_recall=-abs(weight - 4), reconstruction=abs(weight - 5))

    plan = replace(PLAN, objectives=(RECALL, ERROR), num_folds=4)
    records = work_on(tmp_path / "a.db", plan, trials=12, train=two)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert pruned and all(len(record.finished_folds) == 3 for record in pruned)
    front = [record for record in records if 4 <= record.params["system.weights.pixel"] <= 5]
    assert all(record.state == "COMPLETE" for record in front)


def _as_run(record: TrialRecord) -> RunConfig:
    weight = record.params["system.weights.pixel"]
    return replace(RUN, system=Settings(weights=Weights(pixel=weight)))


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


def test_a_subject_that_validates_in_two_folds_is_one_subject() -> None:
    def trial(*subjects: dict[str, tuple[tuple[int, int, int], ...]]) -> TrialRecord:
        folds = {
            index: FoldRecord(values={"macro_recall": 0.5}, seconds=1.0, subjects=own)
            for index, own in enumerate(subjects, 1)
        }
        return TrialRecord(number=0, params={}, folds=folds)

    one = trial({"a": ((0, 0, 2),), "b": ((1, 0, 1),)}, {"a": ((0, 0, 1), (1, 1, 1))})
    other = trial({"a": ((0, 1, 2),), "b": ((1, 1, 1),)}, {"a": ((0, 0, 1), (1, 0, 1))})
    pairs = paired_subjects(one, other)
    assert pairs is not None
    assert pairs[0].tolist() == [[[3, 0], [0, 1]], [[0, 0], [1, 0]]]
    assert pairs[1].tolist() == [[[1, 2], [1, 0]], [[0, 0], [0, 1]]]


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
    assert worse_by_subjects(leaning, best, macro_recall, look=4, num_folds=5)
    assert not worse_by_subjects(alike, best, macro_recall, look=4, num_folds=5)
    assert not worse_by_subjects(best, leaning, macro_recall, look=4, num_folds=5)
    assert not worse_by_subjects(leaning[:6], best[:6], macro_recall, look=4, num_folds=5), (
        "too few"
    )


@pytest.mark.parametrize("num_folds", [2, 3, 5, 10])
def test_all_looks_together_spend_the_level_and_early_ones_most_of_it(num_folds: int) -> None:
    levels = [look_level(look, num_folds) for look in range(1, num_folds)]
    assert sum(levels) == pytest.approx(FALSE_ALARMS)
    assert levels == sorted(levels, reverse=True)
    spared = [num_folds - look for look in range(1, num_folds)]
    assert np.ptp(np.divide(levels, spared)) == pytest.approx(0)
    later = [look_level(look, num_folds, first=2) for look in range(2, num_folds)]
    assert not later or sum(later) == pytest.approx(FALSE_ALARMS)


def trial_of(
    number: int, values_FO: np.ndarray, state: State = "COMPLETE", folds: int | None = None
) -> TrialRecord:
    """Its objectives by fold, the first to be large, the second small; the first folds alone."""
    rows = values_FO[:folds].tolist()
    records = {
        fold: FoldRecord(values=dict(zip(("macro_recall", "reconstruction"), row, strict=True)))
        for fold, row in enumerate(rows, 1)
    }
    return TrialRecord(number=number, params={}, state=state, folds=records)


def given_up_share(
    num_folds: int, num_rivals: int, worse: float, objectives: tuple[Objective, ...], count: int
) -> float:
    """How often one that is `worse` by so many standard deviations of a fold is given up against
    rivals that are equal to one another, all by normal noise."""
    rng, lost = np.random.default_rng(2), 0
    (single, *others), sides = objectives, np.array([1.0, -1.0])
    for _ in range(count):
        rivals = [
            trial_of(k, v) for k, v in enumerate(rng.normal(0, 1, (num_rivals, num_folds, 2)))
        ]
        own_FO = rng.normal(0, 1, (num_folds, 2)) - worse * sides
        looks = [trial_of(99, own_FO, "RUNNING", folds) for folds in range(1, num_folds)]
        if others:
            lost += any(is_dominated(trial, rivals, objectives) for trial in looks)
        else:
            lost += any(loses_on_folds(t, rivals, single, num_folds) for t in looks)
    return lost / count


@pytest.mark.parametrize("num_folds", [5, 10])
def test_noise_alone_keeps_no_trial_off_the_front(num_folds: int) -> None:
    assert given_up_share(num_folds, 20, 0.0, (RECALL, ERROR), 150) <= 0.05


def test_what_the_front_is_clearly_better_than_is_given_up_for_all_their_number() -> None:
    assert given_up_share(10, 20, 4.0, (RECALL, ERROR), 60) >= 0.9
    one = np.arange(6.0)[:, None] * [0.1, -0.1]
    rivals = [trial_of(0, one), trial_of(1, one + np.array([0.5, 2.0]))]
    behind = trial_of(2, one - np.array([0.2, -0.2]), "RUNNING", LEAST_FOLDS)
    assert is_dominated(behind, rivals, (RECALL, ERROR))
    cheaper = trial_of(3, one - np.array([0.2, 0.1]), "RUNNING", LEAST_FOLDS)
    assert not is_dominated(cheaper, rivals, (RECALL, ERROR)), "better in one objective"
    off = [replace(rival, state="PRUNED") for rival in rivals]
    assert not is_dominated(behind, off, (RECALL, ERROR)), "only complete trials are a front"


@pytest.mark.parametrize("num_folds", [5, 10])
@pytest.mark.parametrize("objective", [RECALL, ERROR])
def test_the_paired_test_over_folds_keeps_its_level(num_folds: int, objective: Objective) -> None:
    """Three standard errors above the level would still be noise of 500 searches."""
    assert given_up_share(num_folds, 1, 0.0, (objective,), 500) <= FALSE_ALARMS + 0.019
    assert given_up_share(num_folds, 1, 10.0, (objective,), 60) >= 0.9


def course(rng: np.random.Generator, quality: float, noise: float) -> FoldRecord:
    """A training of three validations that rises to its quality, each with its own noise."""
    shares = (0.5, 0.8, 0.95)
    curve = [(100 * k, share * quality + rng.normal(0, noise)) for k, share in enumerate(shares, 1)]
    end = quality + rng.normal(0, noise)
    return FoldRecord(values={"macro_recall": end, "reconstruction": -end}, curve=tuple(curve))


@pytest.mark.parametrize("objective", [RECALL, ERROR])
def test_with_one_fold_few_are_given_up_that_would_end_as_the_best(objective: Objective) -> None:
    rng, sign = np.random.default_rng(3), 1 if objective.maximizes else -1
    lost = {0.0: 0, 0.15: 0}
    for worse, _ in itertools.product(lost, range(300)):
        past = [
            TrialRecord(number=k, params={}, state="COMPLETE", folds={1: course(rng, q, 0.01)})
            for k, q in enumerate(rng.normal(0.6, 0.05, 10))
        ]
        best = max(one.values["macro_recall"] for one in past)
        own = course(rng, best - worse, 0.01).curve
        turned = [
            replace(one, folds={1: replace(one.folds[1], curve=_turned(one.folds[1].curve, sign))})
            for one in past
        ]
        lost[worse] += any(
            ends_below(
                TrialRecord(
                    number=99, params={}, folds={1: FoldRecord(curve=_turned(own[:look], sign))}
                ),
                turned,
                objective,
            )
            for look in range(1, 4)
        )
    assert lost[0.0] <= 300 * FALSE_ALARMS + 8 and lost[0.15] >= 270


def _turned(curve: Sequence[tuple[int, float]], sign: int) -> tuple[tuple[int, float], ...]:
    return tuple((images, sign * value) for images, value in curve)


def test_a_curve_that_is_no_number_any_more_is_given_up() -> None:
    past = [replace(one, folds={1: one.folds[1]}) for one in noisy_trials(5, 1)]
    broken = TrialRecord(number=9, params={}, folds={1: FoldRecord(curve=((100, np.nan),))})
    assert ends_below(broken, past, RECALL)
    elsewhere = replace(broken, folds={1: FoldRecord(curve=((150, -9.0),))})
    assert not ends_below(elsewhere, past, RECALL), "none has a point there"


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


def test_a_trial_is_given_up_only_beyond_the_noise_of_its_folds() -> None:
    earlier = noisy_trials(7, 5)
    medians = {
        fold: float(np.median([past.folds[fold].values["macro_recall"] for past in earlier]))
        for fold in range(1, 6)
    }

    def lags(by: float, past: list[TrialRecord], folds: int = 1) -> bool:
        own = {
            fold: FoldRecord(values={"macro_recall": medians[fold] - by}, curve=((100, 0.0),))
            for fold in range(1, folds + 1)
        }
        return lags_behind(TrialRecord(number=9, params={}, folds=own), past, RECALL)

    assert not lags(-0.001, earlier) and not lags(0.005, earlier)
    assert lags(0.05, earlier) and lags(np.nan, earlier)
    assert lags(0.005, earlier, folds=5), "in each of five folds the same is no chance"
    assert not lags(0.05, earlier[:3]), "three trials are too few"


def test_one_fold_is_judged_by_the_course_of_the_best() -> None:
    past = [replace(one, folds={1: one.folds[1]}) for one in noisy_trials(7, 5)]
    best = max(dict(one.folds[1].curve)[200] for one in past)

    def below(by: float, images: int = 200) -> bool:
        own = {1: FoldRecord(curve=((100, 0.3), (images, best - by)))}
        return ends_below(TrialRecord(number=9, params={}, folds=own), past, RECALL)

    assert not below(-1e-3) and below(0.05)
    assert not ends_below(TrialRecord(number=9, params={}), past, RECALL), "it has not begun"


@pytest.mark.parametrize("num_folds", [1, 5])
def test_the_course_within_a_fold_counts_where_there_is_no_other(
    tmp_path: Path, num_folds: int
) -> None:
    records = work_on(tmp_path / "a.db", replace(PLAN, num_folds=num_folds), trials=16)
    pruned = [record for record in records if record.state == "PRUNED"]
    assert pruned
    assert {bool(record.finished_folds) for record in pruned} == {num_folds > 1}
    for record in pruned:
        assert set(record.folds) == set(record.finished_folds) or num_folds == 1


def test_how_often_noise_gives_up_what_is_no_worse_than_the_median() -> None:
    rng, lost = np.random.default_rng(1), {0.0: 0, 1.0: 0}
    earlier = [
        TrialRecord(
            number=number,
            params={},
            state="COMPLETE",
            folds={k: FoldRecord(values={"macro_recall": float(v)}) for k, v in enumerate(row, 1)},
        )
        for number, row in enumerate(rng.normal(0, 1, (60, 10)))
    ]
    for better, _ in itertools.product(lost, range(300)):
        values = rng.normal(better, 1, 9).tolist()
        folds = {k: FoldRecord(values={"macro_recall": v}) for k, v in enumerate(values, 1)}
        lost[better] += any(
            lags_behind(
                TrialRecord(number=99, params={}, folds={k: folds[k] for k in range(1, look + 1)}),
                earlier,
                RECALL,
            )
            for look in range(1, 10)
        )
    assert 90 <= lost[0.0] <= 150 and lost[1.0] <= 15


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

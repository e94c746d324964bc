"""What MLflow is told of a study while it goes on, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.home import runs_dir, tracking_uri
from trainer.scorecard.measures import flat
from trainer.tracking.moved import require_begun
from trainer.tracking.sender import Status
from trainer.tracking.tracker import Tracker, create_run, run_tags
from tuning.plan import Plan
from tuning.results import FINAL, SearchResult, TrialRecord
from tuning.setup import Setup

OnTrial = Callable[[TrialRecord, int], None]
"""Hears of a trial that has an end, and how many have by then."""


def create_study_run(plan: Plan, setup: Setup) -> str:
    """The study's run in MLflow; its trials' runs stand below it."""
    note = f"Study `{plan.name}`: values are of validation subjects, which the search has seen."
    return create_run(
        tracking_uri(),
        setup.experiment,
        plan.name,
        tags={
            **run_tags(setup.run, kind="study", lake_hash=setup.lake_hash, note=note),
            "mien.study": plan.name,
            "mien.leaks": setup.leaks,
        },
        params=plan.identity(),
    )


def check_study_run(plan: Plan, run_id: str) -> None:
    """ValueError where this MLflow, whatever its address, is not the one that the study began in.

    TrackingError where it cannot be reached.
    """
    require_begun(run_id, f"run of study '{plan.name}'")


class Progress:
    """The study's own MLflow run: each trial's value, and the best so far, by trials that ended."""

    is_finished = False
    """Whether the study is at its end when the block is; else MLflow says that it was stopped."""

    def __init__(
        self, plan: Plan, setup: Setup, known: Sequence[TrialRecord], on_trial: OnTrial | None
    ) -> None:
        journal = runs_dir() / str(setup.study_run) / "journal.jsonl"
        self._tracker = Tracker(tracking_uri(), str(setup.study_run), journal, system_metrics=False)
        self._objectives = plan.objectives
        self._on_trial = on_trial
        self._ended = [record for record in known if record.state in FINAL]

    def hear(self, trial: TrialRecord) -> None:
        """A trial has an end."""
        self._ended.append(trial)
        complete = [record for record in self._ended if record.state == "COMPLETE"]
        step = len(self._ended)
        values = {"trials_ended": float(step)}
        for item in self._objectives if complete else ():
            of_all = [record.values[item.name] for record in complete]
            values[f"best/{item.name}"] = max(of_all) if item.maximizes else min(of_all)
            if trial.state == "COMPLETE":
                values[f"trial/{item.name}"] = trial.values[item.name]
        self._tracker.metrics(values, step)
        self._tracker.commit(step)
        if self._on_trial is not None:
            self._on_trial(trial, step)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        ended = "FINISHED" if self.is_finished else "KILLED"
        self._tracker.close(ended if kind is None else "FAILED")


def tell_ending(result: SearchResult) -> None:
    """Importance, cost and the outer test, as figures of the study's run."""
    figures = {f"cost/{name}": value for name, value in result.cost.items()}
    for objective, shares in result.importance.items():
        figures |= {f"importance/{objective}/{path}": share for path, share in shares.items()}
    for name, card in result.outer.items():
        figures |= _outer_figures(name, card)
    if result.outer:
        figures["outer/tested_before"] = len(result.tested_before)
    _end(result, "FINISHED", figures)


def tell_stopped(result: SearchResult) -> None:
    """The outer test was stopped, and with it the search."""
    _end(result, "KILLED", {})


def _end(result: SearchResult, status: Status, figures: Mapping[str, float]) -> None:
    if result.run_id is None:
        return
    journal = runs_dir() / result.run_id / "ending.jsonl"
    tracker = Tracker(tracking_uri(), result.run_id, journal, system_metrics=False)
    tracker.metrics(figures, result.num_ended)
    tracker.close(status)


def _outer_figures(name: str, card: Mapping[str, Any]) -> dict[str, float]:
    """Of the objectives and of recognition, with their intervals where they have them."""
    told = {figure: card[figure] for figure in ("macro_recall", "accuracy") if figure in card}
    told |= card["objectives"]
    figures: dict[str, float] = {}
    for figure, value in told.items():
        path = f"outer/{name}_{figure}"
        figures |= flat({path: value}) if isinstance(value, Mapping) else {path: value}
    return figures

"""A search over a run's settings: checked, kept in a study, worked on in slots, told to MLflow."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from cluster.home import home, runs_dir, tracking_uri
from cluster.resources import Capacity, share
from cluster.session import connect, worker_environment
from data_service.folds import Fold, make_folds
from data_service.lake import Lake
from trainer import catalog, feed
from trainer import job as jobs
from trainer.config import RunConfig, fingerprint
from trainer.launch import default_fold
from trainer.launch import train as train_run
from trainer.leakage import leak_tags
from trainer.tracking import Tracker, create_run, run_tags
from tuning.objectives import objectives_of
from tuning.plan import Plan
from tuning.results import FINAL, SearchResult, TrialRecord
from tuning.slots import run_slots
from tuning.space import search_space
from tuning.study import Study
from tuning.trial import Setup, Train, trial_run

CURVE_POINTS = 3
"""Validations within a training whose recipe asks for none; the end is measured in any case."""

OnTrial = Callable[[TrialRecord], None]


def search(
    run: RunConfig,
    lake: Path,
    *,
    trials: int,
    search: Sequence[str] = (),
    objectives: Sequence[str] = (),
    folds: int = 1,
    parallel: int = 1,
    name: str | None = None,
    resume: bool = False,
    seed: int = 0,
    experiment: str = "mien",
    on_trial: OnTrial | None = None,
    train: Train = train_run,
    allow_leaks: bool = False,
) -> SearchResult:
    """Search the settings of a run by what the validation subjects say; test subjects stay unseen.

    `search` is described at `tuning.space.search_space`, `objectives` at `tuning.objectives` (by
    default what the system is for). Trial 0 is the run's own setting. `parallel` settings are
    proposed and trained at a time, from the results of those before, so that a search that was
    killed and goes on with `resume` has the same trials, values and states as one left alone. With
    `folds` above 1 a trial's value is the mean over folds by subject. `on_trial` hears of each
    trial that has an end. ValueError: what was asked is wrong; RuntimeError: no trial succeeded.
    """
    began = time.monotonic()
    for given, what in ((trials, "trials"), (folds, "folds"), (parallel, "parallel")):
        if given < 1:
            raise ValueError(f"{what} is {given}; at least 1 is needed")
    aims = objectives_of(catalog.load(run.system_name), objectives)
    space = search_space(run, search)
    opened = Lake.open(Path(lake))
    fold = f"1/{folds}" if folds > 1 else default_fold(opened)
    run = _with_curve(trial_run(run), opened, fold)
    plan = Plan(
        name=study_name(f"{run.system_name}.{run.recipe}", name, resume=resume),
        distributions=space.distributions,
        own=space.own,
        objectives=aims,
        num_folds=folds,
        generation_size=parallel,
        seed=seed,
        about={"run": fingerprint(run), "lake": opened.hash},
    )
    setup = Setup(
        run=run,
        lake=Path(lake).absolute(),
        lake_hash=opened.hash,
        experiment=experiment,
        objectives=aims,
        num_folds=folds,
        leaks=leak_tags(opened, _splits(run, opened, folds), allow=allow_leaks)["mien.leaks"],
    )
    with _only_one(plan.name):
        result = run_study(
            plan, setup, trials=trials, parallel=parallel, train=train, on_trial=on_trial
        )
    return replace(result, seconds=time.monotonic() - began)


def _with_curve(run: RunConfig, lake: Lake, fold: str) -> RunConfig:
    """The run with a learning curve to prune by: a few validations, where its recipe has none.

    ValueError where run, lake and fold do not fit.
    """
    spec = catalog.load(run.system_name)
    data = feed.prepare(run, spec, lake, fold)
    if run.evaluation.every_images:
        return run
    with torch.random.fork_rng(devices=[]):
        images = sum(stage.images for stage in spec.build(run.system, data.info).stages())
    every = images // (CURVE_POINTS + 1) + 1
    return replace(run, evaluation=replace(run.evaluation, every_images=every))


def _splits(run: RunConfig, lake: Lake, folds: int) -> dict[str, Fold]:
    """The folds that every trial trains, by name."""
    classes = jobs.classes_of(run, lake.manifest.classes)
    if folds == 1:
        fold = default_fold(lake)
        return {fold: feed.split(lake, fold, classes)}
    made = make_folds(lake.table, folds, classes=classes)
    return {f"{one.index}/{folds}": one for one in made}


def studies_dir() -> Path:
    """Where each study has its database."""
    return home() / "studies"


def study_name(system: str, name: str | None, *, resume: bool) -> str:
    """The study to begin or to go on with; without a name, the system's next one (or last).

    ValueError: no name for a file, one to begin that exists, one to resume that does not.
    """
    known = {path.stem for path in studies_dir().glob("*.db")}
    if name is None:
        numbers = [int(stem.rpartition("-")[2]) for stem in known if _is_numbered(stem, system)]
        name = f"{system}-{max(numbers, default=0) + (0 if resume else 1)}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"'{name}' cannot name a study; valid: letters, digits, and any of _ . -")
    if resume and name not in known:
        listed = ", ".join(sorted(known)) or "none yet"
        raise ValueError(f"there is no study '{name}' to resume; studies: {listed}")
    if not resume and name in known:
        raise ValueError(f"study '{name}' exists; go on with --resume, or choose another --name")
    return name


def _is_numbered(stem: str, system: str) -> bool:
    return re.fullmatch(re.escape(system) + r"-\d+", stem) is not None


@contextmanager
def _only_one(name: str) -> Iterator[None]:
    """A study has one searcher at a time; the lock goes with its process."""
    studies_dir().mkdir(parents=True, exist_ok=True)
    with (studies_dir() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"study '{name}' is being searched by another process") from None
        yield


def run_study(
    plan: Plan,
    setup: Setup,
    *,
    trials: int,
    parallel: int,
    train: Train = train_run,
    on_trial: OnTrial | None = None,
) -> SearchResult:
    """Bring a study to `trials` trials; one that has them is only read. See `search`."""
    path = studies_dir() / f"{plan.name}.db"
    study = Study(path, plan, trials=trials)
    try:
        if not study.is_finished():
            setup = replace(setup, study_run=study.run_id or _create_run(plan, setup))
            study.set_run_id(str(setup.study_run))
            progress = _Progress(plan, setup, study.records(), on_trial or (lambda trial: None))
            study.close()
            with progress:
                _search(path, plan, setup, trials, parallel, train, progress.hear)
            study = Study(path, plan, trials=trials)
        return _result(study)
    finally:
        study.close()


def _search(
    path: Path,
    plan: Plan,
    setup: Setup,
    trials: int,
    parallel: int,
    train: Train,
    on_trial: OnTrial,
) -> None:
    with connect() as session:
        capacity = Capacity(cpus=session.num_cpus, gpus=session.num_gpus, nodes=session.num_nodes)
        portion = share(1, capacity, parallel=parallel)
        setup = replace(setup, threads=portion.threads, environment=worker_environment())
        run_slots(
            path,
            plan,
            setup,
            trials=trials,
            portion=portion,
            parallel=parallel,
            train=train,
            on_trial=on_trial,
        )


def _result(study: Study) -> SearchResult:
    """RuntimeError where every trial failed."""
    records = study.records()
    if study.is_finished() and all(record.state == "FAIL" for record in records):
        raise RuntimeError(
            f"study '{study.plan.name}': all {len(records)} trials failed; the first: "
            f"{records[0].error}"
        )
    return SearchResult(
        study=study.plan.name,
        run_id=study.run_id,
        objectives=study.plan.objectives,
        trials=records,
        status="finished" if study.is_finished() else "stopped",
        seconds=0.0,
    )


def _create_run(plan: Plan, setup: Setup) -> str:
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


class _Progress:
    """The study's own MLflow run: each trial's value, and the best so far, by trials that ended."""

    def __init__(
        self, plan: Plan, setup: Setup, known: Sequence[TrialRecord], on_trial: OnTrial
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
        self._on_trial(trial)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._tracker.close("FINISHED" if kind is None else "FAILED")

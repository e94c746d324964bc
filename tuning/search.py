"""A search over a run's settings: checked, kept in a study, worked on in slots, told to MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cluster.resources import share
from cluster.session import connect, worker_environment
from data_service.lakes.lake import Lake
from trainer import catalog, feed
from trainer import job as jobs
from trainer.ancestry import check_unseen
from trainer.config import RunConfig, fingerprint, to_dict
from trainer.feed import default_fold
from trainer.kin import kin_of
from trainer.launch import train_in_steps
from trainer.leakage import leak_tags
from tuning.databases import Where
from tuning.ending import conclude
from tuning.objectives import SPEED, measuring, objectives_of
from tuning.plan import Plan
from tuning.progress import OnTrial, Progress, check_study_run, create_study_run
from tuning.results import SearchResult, TrialRecord
from tuning.setup import Setup, trial_run
from tuning.slots import run_slots
from tuning.space import SearchSpace, search_space, with_setting
from tuning.studies import only_searcher, place_of, study_name
from tuning.study import Study
from tuning.trial import Train

CURVE_POINTS = 3
"""Validations within a training whose recipe asks for none; the end is measured in any case."""


def search(
    run: RunConfig,
    lake: Path,
    *,
    trials: int,
    search: Sequence[str] = (),
    objectives: Sequence[str] = (),
    folds: int = 1,
    parallel: int = 1,
    lanes: int = 1,
    fused: bool = False,
    name: str | None = None,
    resume: bool = False,
    seed: int = 0,
    outer: str | None = None,
    asynchronous: bool = False,
    experiment: str = "mien",
    on_trial: OnTrial | None = None,
    train: Train = train_in_steps,
    allow_leaks: bool = False,
) -> SearchResult:
    """Search the settings of a run by what the validation subjects say; test subjects stay unseen.

    `search` is described at `tuning.space.search_space`, `objectives` at `tuning.objectives` (by
    default what the system is for). Trial 0 is the run's own setting. `parallel` processes train
    `lanes` settings each at a time: a generation, which is proposed from the results of all before
    but the last one and pruned by these (a single trial at a time, from all before), so that no
    process waits for the slowest trial, and a search that was killed and goes on with `resume` has
    the same trials, values and states as one left alone. With `fused` the lanes of a process train
    in one pass where they can (`tuning.fused`); who goes with whom decides the last bits of what
    they come to, so that one which was killed goes on, but not to the same last bit. With `folds`
    above 1 a trial's value is the mean over folds by subject. `outer` sets the test subjects of a
    fold (`K/N` or official) aside; at the end the run's own setting and the best one are trained on
    the others and tested on these, once. `asynchronous` proposes from all that has ended by then:
    faster where trials differ in length, and not repeatable. `on_trial` hears of each trial that
    has an end. ValueError: what was asked is wrong; RuntimeError: no trial succeeded.
    """
    began = time.monotonic()
    _check_counts(trials=trials, folds=folds, parallel=parallel, lanes=lanes)
    feed.refuse_share(run, "but a study takes no pool of synthetic faces")
    aims = objectives_of(catalog.spec_of(run), objectives)
    space = search_space(run, search)
    study = study_name(f"{run.system_name}.{run.recipe}", name, resume=resume)
    opened = Lake.open(Path(lake))
    _check_official(opened, folds, outer)
    setup = Setup(
        run=measuring(trial_run(run), aims),
        origin=run,
        lake=opened.path.absolute(),
        lake_hash=opened.hash,
        experiment=experiment,
        objectives=aims,
        num_folds=folds,
        outer=outer,
        lanes=lanes,
        fused=fused,
    )
    _check_lanes(setup, space, opened)
    setup = _fitted(setup, run, opened, allow_leaks=allow_leaks, is_new=not resume)
    about = {"run": fingerprint(setup.run), "lake": opened.hash}
    plan = Plan(
        name=study,
        distributions=space.distributions,
        own=space.own,
        objectives=aims,
        num_folds=folds,
        generation_size=parallel * lanes,
        seed=seed,
        about=about
        | ({"outer fold": outer} if outer else {})
        | ({"passes": "one for all lanes"} if fused else {}),
        conditions=space.conditions,
        asynchronous=asynchronous,
    )
    with only_searcher(plan.name):
        result = run_study(
            plan, setup, trials=trials, parallel=parallel, train=train, on_trial=on_trial
        )
    return replace(result, seconds=time.monotonic() - began)


def _check_counts(**counts: int) -> None:
    for what, given in counts.items():
        if given < 1:
            raise ValueError(f"{what} is {given}; at least 1 is needed")


def _check_lanes(setup: Setup, space: SearchSpace, lake: Lake) -> None:
    """ValueError where lanes would tell nothing of their speed, or no two could go in one pass."""
    if setup.lanes > 1 and any(item.name == SPEED for item in setup.objectives):
        raise ValueError(
            f"--objective {SPEED} with --lanes {setup.lanes}: lanes share a process, whose speed "
            "is not that of a setting; leave --lanes at 1"
        )
    if not setup.fused:
        return
    if setup.lanes == 1:
        raise ValueError("--fused trains the lanes of a process in one pass; give --lanes above 1")
    spec = catalog.spec_of(setup.run)
    if spec.not_in_one_pass:
        raise ValueError(
            f"{spec.name} cannot be trained in one pass: {spec.not_in_one_pass}; leave --fused out"
        )
    info = feed.prepare(setup.run, spec, lake, setup.fold(1) or default_fold(lake)).info
    for path, (low, high) in space.ends().items():
        middle = low + (high - low) / 2  # a weight of zero is no weight
        kins = [kin_of(with_setting(setup.run, {path: x}), spec, info) for x in (middle, high)]
        if kins[0] != kins[1]:
            raise ValueError(
                f"--fused: no two settings that differ in {path} can go in one pass, only in "
                "weights, rates and what a gate has as a number; leave --fused out"
            )


def _fitted(setup: Setup, run: RunConfig, lake: Lake, *, allow_leaks: bool, is_new: bool) -> Setup:
    """The setup with all that hangs on its folds; ValueError where run, lake and folds do not fit.

    These are a learning curve to prune by, which subjects stay unseen, and what leaks.
    """
    outer = setup.outer
    if outer is not None:
        data = feed.prepare(run, catalog.spec_of(run), lake, outer)
        check_unseen(run, None, lake, {outer: data.fold})  # now, and not after the last trial
    first, *others = (setup.fold(k) or default_fold(lake) for k in range(1, setup.num_folds + 1))
    for fold in others:
        feed.prepare(setup.run, catalog.spec_of(setup.run), lake, fold)
    unseen = outer or (first if setup.num_folds == 1 else None)
    spec = catalog.spec_of(setup.run)
    data = feed.prepare(setup.run, spec, lake, first)
    setup = replace(setup, run=_with_curve(setup, data), unseen=unseen)
    if is_new:
        feed.check_system(setup.run, spec, data, lake, None)
    return replace(setup, leaks=_leaks(setup, lake, allow=allow_leaks))


def _check_official(lake: Lake, folds: int, outer: str | None) -> None:
    """ValueError where folds of all subjects would search on the official test faces."""
    if folds > 1 and outer is None and default_fold(lake) == feed.OFFICIAL:
        raise ValueError(
            f"{lake.path} has an official split, and --folds {folds} alone would search on its "
            "test faces; leave --folds out, or give --outer official (or --outer K/N)"
        )


def _leaks(setup: Setup, lake: Lake, *, allow: bool) -> str:
    """What leaks in the folds of a trial; ValueError where something does and may not."""
    classes = jobs.classes_of(setup.run, lake.manifest.classes)
    names = {setup.fold(index) or default_fold(lake) for index in range(1, setup.num_folds + 1)}
    splits = {name: feed.split(lake, name, classes) for name in sorted(names)}
    return leak_tags(lake, splits, allow=allow)["mien.leaks"]


def _with_curve(setup: Setup, data: feed.TrainingData) -> RunConfig:
    """The run with a learning curve to prune by: a few validations, where its recipe has none.

    Only where something is pruned by it: one objective, which is not speed, in one fold.
    """
    run = setup.run
    names = [item.name for item in setup.objectives]
    pruned_by = setup.num_folds == 1 and len(names) == 1 and names != [SPEED]
    if run.evaluation.every_images or not pruned_by:
        return run
    with torch.random.fork_rng(devices=[]):
        system = catalog.spec_of(run).build(run.system, data.info)
    images = sum(stage.images for stage in system.stages())
    every = images // (CURVE_POINTS + 1) + 1
    return replace(run, evaluation=replace(run.evaluation, every_images=every))


def run_study(
    plan: Plan,
    setup: Setup,
    *,
    trials: int,
    parallel: int,
    train: Train = train_in_steps,
    on_trial: OnTrial | None = None,
) -> SearchResult:
    """Bring a study to `trials` trials; one that has them is only read. See `search`.

    One that goes on stays in the experiment that it began in.
    """
    where = place_of(plan.name)
    study = Study(where, plan, trials=trials)
    try:
        setup = replace(setup, experiment=study.kept("experiment") or setup.experiment)
        if not study.is_finished():
            if begun := study.kept("run_id"):
                check_study_run(plan, begun)
            setup = replace(setup, study_run=begun or create_study_run(plan, setup))
            study.keep("run_id", setup.study_run)
            study.keep("experiment", setup.experiment)
            study.keep("origin", to_dict(setup.origin or setup.run))
            study.keep("lake", str(setup.lake))
            study.keep("unseen", setup.unseen)
            progress = Progress(plan, setup, study.records(), on_trial)
            study.close()
            with progress:
                _search(where, plan, setup, trials, parallel, train, progress.hear)
                study = Study(where, plan, trials=trials)
                progress.is_finished = study.is_finished()
        return conclude(study, replace(setup, study_run=study.kept("run_id")), train)
    finally:
        study.close()


def _search(
    where: Where,
    plan: Plan,
    setup: Setup,
    trials: int,
    parallel: int,
    train: Train,
    on_end: Callable[[TrialRecord], None],
) -> None:
    with connect() as session:
        portion = share(1, session.capacity, parallel=parallel)
        setup = replace(setup, threads=portion.threads, environment=worker_environment())
        run_slots(
            where,
            plan,
            setup,
            trials=trials,
            portion=portion,
            parallel=parallel,
            train=train,
            on_trial=on_end,
        )

"""One setting over all folds: a parent run with one run per fold, and one pooled scorecard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.home import home, runs_dir, tracking_uri
from cluster.interrupt import on_interrupt
from cluster.lock import held
from cluster.resources import share
from cluster.session import connect, local_capacity
from data_service.folds import Fold
from data_service.lakes.lake import Lake
from trainer import feed, launch
from trainer.ancestry import check_unseen, first_weights
from trainer.config import RunConfig, fingerprint
from trainer.crossval_job import RECORD, CrossvalJob
from trainer.crossval_result import CrossvalResult, concluded
from trainer.leakage import leak_tags
from trainer.restore import check_map
from trainer.tracking.moved import require_begun
from trainer.tracking.tracker import Tracker, create_run

__all__ = ["RECORD", "CrossvalJob", "CrossvalResult", "crossval", "resume"]

Progress = Callable[[int, int], None]


def crossval(
    run: RunConfig,
    lake: Path,
    folds: int,
    *,
    parallel: int = 1,
    experiment: str = "mien",
    name: str | None = None,
    init: str | None = None,
    init_only: str = "*",
    init_map: Sequence[str] = (),
    allow_leaks: bool = False,
    synthetic: Path | None = None,
    progress: Progress | None = None,
) -> CrossvalResult:
    """Train and test every fold, `parallel` at a time, each in a process of its own.

    `init` names a run of another lake, or a file of weights, that every fold starts from, with
    `init_only` and `init_map` as for `launch.train`.
    `synthetic`, a pool, is refused, and so is a share of one: it belongs to one fold.
    `progress(done, folds)` is called as folds get done.
    ValueError when the folds, the lake or the cluster do not fit, or a fold leaks and that is not
    allowed, before anything starts. KeyboardInterrupt where a fold is stopped: none follows it, and
    `resume` goes on.
    """
    if synthetic is not None or run.data.synthetic_share:
        raise ValueError(
            "a pool of synthetic faces belongs to one fold, crossval trains all; for each fold: "
            "mien synthesise RUN --fold K/N, then mien train --fold K/N --synthetic POOL"
        )
    check_map(init, init_map)
    if folds < 2:
        raise ValueError(f"{folds} folds; at least 2 are needed, for each is tested once")
    opened = Lake.open(Path(lake))
    _check_room(run, parallel)
    named = _checked_folds(run, opened, folds)
    weights = first_weights(init) if init else None
    unchecked = check_unseen(run, weights, opened, named)
    leaks = leak_tags(opened, named, allow=allow_leaks)
    uri = tracking_uri()
    home().mkdir(parents=True, exist_ok=True)
    run_id = create_run(
        uri,
        experiment,
        name or f"{run.system_name}.{run.recipe} x{folds} s{run.seed}",
        tags={
            **launch.lake_tags(opened),
            **unchecked,
            **leaks,
            "mien.kind": "crossval",
            "mien.folds": str(folds),
            "mien.settings": fingerprint(run),
        },
        params=run,
    )
    job = CrossvalJob(
        run_id=run_id,
        directory=runs_dir() / run_id,
        run=run,
        lake=Path(lake).absolute(),
        lake_hash=opened.hash,
        folds=folds,
        tracking_uri=uri,
        experiment=experiment,
        init=str(weights) if weights else None,
        init_only=init_only,
        init_map=tuple(init_map),
        allow_leaks=allow_leaks,
    )
    with launch.failed_unless_begun(uri, run_id):
        job.save()
    return _go_on(job, opened, parallel, progress)


def _check_room(run: RunConfig, parallel: int) -> None:
    """ValueError where so many folds cannot be trained at a time."""
    if parallel > 1 and not launch.in_process(run):
        raise ValueError(
            f"parallel is {parallel}, but folds of several workers or of a ZeRO stage are trained "
            "one after another; valid: 1, or engine.workers=1 and engine.zero=none"
        )
    if offered := local_capacity():
        share(run.engine.least, offered, parallel=parallel)


def _checked_folds(run: RunConfig, lake: Lake, folds: int) -> dict[str, Fold]:
    """All folds by name; ValueError where run, lake and folds do not fit."""
    spec = feed.spec_of(run)
    prepared = {fold: feed.prepare(run, spec, lake, fold) for fold in _names(folds)}
    feed.check_system(run, spec, prepared[_names(folds)[0]], lake, None)
    return {fold: data.fold for fold, data in prepared.items()}


def resume(run_id: str, *, parallel: int = 1, progress: Progress | None = None) -> CrossvalResult:
    """Go on with a cross-validation that was stopped or killed: what has finished is kept, a fold
    that was under way goes on from its checkpoint. MLflow may have another address by now.
    ValueError where it is another one, the lake has changed since, or so many folds do not fit at a
    time; TrackingError where MLflow cannot be reached."""
    job = CrossvalJob.find(run_id)
    lake = Lake.open(job.lake)
    if lake.hash != job.lake_hash:
        raise ValueError(f"{job.lake} is no longer the lake that {job.run_id} began with")
    require_begun(job.run_id, f"run of cross-validation {job.run_id}")
    _check_room(job.run, parallel)
    return _go_on(job, lake, parallel, progress)


def _go_on(
    job: CrossvalJob, lake: Lake, parallel: int, progress: Progress | None
) -> CrossvalResult:
    with held(job.directory / "lock", f"{job.run_id} is being trained by another process"):
        return _train_and_conclude(job.at(tracking_uri()), lake, parallel, progress)


def _train_and_conclude(
    job: CrossvalJob, lake: Lake, parallel: int, progress: Progress | None
) -> CrossvalResult:
    tracker = Tracker(job.tracking_uri, job.run_id, job.directory / "journal.jsonl")
    stopping = threading.Event()
    try:
        with on_interrupt(stopping.set):
            results = tuple(
                _train_all(job, parallel, stopping, progress or (lambda done, folds: None))
            )
        result = concluded(job, lake, results, tracker)
    except KeyboardInterrupt:
        tracker.close("KILLED")
        raise KeyboardInterrupt(f"stopped; to go on: mien crossval --resume {job.run_id}") from None
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")
    return result


def _names(folds: int) -> list[str]:
    return [f"{index + 1}/{folds}" for index in range(folds)]


def _train_all(
    job: CrossvalJob, parallel: int, stopping: threading.Event, progress: Progress
) -> Iterator[launch.RunResult]:
    """The folds' results in order; KeyboardInterrupt where one is stopped, or all are to be."""
    if parallel == 1:
        for done, fold in enumerate(_names(job.folds)):
            if stopping.is_set():
                raise KeyboardInterrupt
            progress(done, job.folds)
            yield launch.unstopped(_train_fold(job, fold))
        return
    with connect() as session:
        portion = share(1, session.capacity, parallel=parallel)
        threaded = replace(job.run, engine=replace(job.run.engine, threads=portion.threads))
        own = replace(job, run=threaded)
        yield from _in_processes(own, parallel, portion.per_worker, stopping, progress)


def _in_processes(
    job: CrossvalJob,
    parallel: int,
    resources: Mapping[str, float],
    stopping: threading.Event,
    progress: Progress,
) -> Iterator[launch.RunResult]:
    """At most `parallel` folds at once, as Ray tasks. Where one is stopped or fails, or all are to
    stop, those under way save and stop too; then what the first one failed of is raised."""
    import ray

    task = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0), max_retries=1)(
        _train_fold
    )
    folds, running, done = _names(job.folds), {}, {}
    waiting, errors = list(folds), []
    while waiting or running:
        progress(len(done), job.folds)
        if stopping.is_set():
            waiting.clear()
            for run_id in job.begun().values():
                (runs_dir() / run_id / "stop").touch()
        while waiting and len(running) < parallel:
            fold = waiting.pop(0)
            running[task.remote(job, fold)] = fold
        ready, _ = ray.wait(list(running), num_returns=1, timeout=0.5) if running else ([], [])
        for reference in ready:
            fold = running.pop(reference)
            try:
                done[fold] = ray.get(reference)
            except Exception as error:  # whatever it is, the other folds are saved first
                errors.append(error)
            if fold not in done or done[fold].status == "stopped":
                stopping.set()
    if errors:
        raise errors[0]
    if stopping.is_set():
        raise KeyboardInterrupt
    yield from (done[fold] for fold in folds)


def _train_fold(job: CrossvalJob, fold: str) -> launch.RunResult:
    """Train the fold, or go on with the run of it that was begun."""
    return launch.train(
        job.run,
        job.lake,
        fold=fold,
        experiment=job.experiment,
        parent=job.run_id,
        init=job.init,
        init_only=job.init_only,
        init_map=job.init_map,
        allow_leaks=job.allow_leaks,
        resume=job.begun().get(fold),
    )

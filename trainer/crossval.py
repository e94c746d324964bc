"""One setting over all folds: a parent run with one run per fold, and one pooled scorecard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.home import home, runs_dir, tracking_uri
from cluster.interrupt import on_interrupt
from cluster.lock import held
from cluster.resources import share
from cluster.session import connect, local_capacity
from data_service.folds import Fold
from data_service.lakes.lake import Lake
from data_service.schema import Expression
from trainer import feed, launch
from trainer import job as jobs
from trainer.ancestry import check_unseen, first_weights
from trainer.config import RunConfig, fingerprint, to_dict
from trainer.leakage import leak_tags
from trainer.overrides import from_dict
from trainer.restore import check_map
from trainer.scorecard.evaluate import pooled, read_predictions, scorecard
from trainer.tracking.report import report_scorecard
from trainer.tracking.tracker import Tracker, create_run, knows


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossvalResult:
    """The runs of all folds, and the scorecard over every subject, each tested exactly once."""

    run_id: str
    directory: Path
    folds: tuple[launch.RunResult, ...]
    scorecard: Mapping[str, Any] | None

    @property
    def images_per_second(self) -> float:
        """The mean over the folds."""
        return float(np.mean([fold.images_per_second for fold in self.folds]))

    def as_json(self) -> dict[str, Any]:
        """Plain values, the scorecard's entries at the top level."""
        return {
            "run_id": self.run_id,
            "status": "finished",
            "folds": [fold.run_id for fold in self.folds],
            "images_per_second": self.images_per_second,
            "first_step_seconds": self.folds[0].first_step_seconds,
            **(self.scorecard or {}),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossvalJob:
    """A cross-validation as `crossval.json` in its directory tells of it, to go on with."""

    run_id: str
    directory: Path
    run: RunConfig
    lake: Path
    lake_hash: str
    folds: int
    tracking_uri: str
    experiment: str
    init: str | None = None
    init_only: str = "*"
    init_map: tuple[str, ...] = ()
    allow_leaks: bool = False

    def save(self) -> None:
        """Write `crossval.json`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        rest = {name: getattr(self, name) for name in _plain_fields()}
        values = {"run": to_dict(self.run), "lake": str(self.lake), **rest}
        jobs.write_json(self.directory / RECORD, values)

    @classmethod
    def find(cls, run_id: str) -> CrossvalJob:
        """The one of that id, or of the start of its id; ValueError where it is not one."""
        found = [
            path for path in runs_dir().glob(f"*/{RECORD}") if path.parent.name.startswith(run_id)
        ]
        if len(found) != 1:
            names = ", ".join(path.parent.name for path in found) or "none"
            raise ValueError(f"'{run_id}' must name one cross-validation of {runs_dir()}: {names}")
        values: dict[str, Any] = {"init_map": (), **jobs.read_json(found[0])}
        try:
            rest = {name: values[name] for name in _plain_fields()}
            rest["init_map"] = tuple(rest["init_map"])
            run, lake = from_dict(values["run"]), Path(values["lake"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{found[0]} is no record of a cross-validation: {error}") from None
        return cls(directory=found[0].parent, run=run, lake=lake, **rest)


RECORD = "crossval.json"
Progress = Callable[[int, int], None]


def _plain_fields() -> list[str]:
    names = [item.name for item in fields(CrossvalJob)]
    return [name for name in names if name not in ("directory", "run", "lake")]


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
    if not knows(tracking_uri(), job.run_id):
        raise ValueError(
            f"MLflow at {tracking_uri()} has no run of cross-validation {job.run_id}, which began "
            "in another: set MLFLOW_TRACKING_URI, or the home, to where it began"
        )
    _check_room(job.run, parallel)
    return _go_on(job, lake, parallel, progress)


def _go_on(
    job: CrossvalJob, lake: Lake, parallel: int, progress: Progress | None
) -> CrossvalResult:
    with held(job.directory / "lock", f"{job.run_id} is being trained by another process"):
        return _train_and_conclude(_at(job, tracking_uri()), lake, parallel, progress)


def _at(job: CrossvalJob, uri: str) -> CrossvalJob:
    """The job as it tells MLflow at this address, and so do the runs of its folds."""
    if uri == job.tracking_uri:
        return job
    for one in _runs_of_folds(job):
        jobs.move_tracking(Path(one["directory"]), uri)
    job = replace(job, tracking_uri=uri)
    job.save()
    return job


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
        result = _concluded(job, lake, results, tracker)
    except KeyboardInterrupt:
        tracker.close("KILLED")
        raise KeyboardInterrupt(f"stopped; to go on: mien crossval --resume {job.run_id}") from None
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")
    return result


def _concluded(
    job: CrossvalJob, lake: Lake, results: tuple[launch.RunResult, ...], tracker: Tracker
) -> CrossvalResult:
    classes = jobs.classes_of(job.run, lake.manifest.classes)
    result = CrossvalResult(
        run_id=job.run_id,
        directory=job.directory,
        folds=results,
        scorecard=_scorecard(results, classes, job.run.seed),
    )
    path = job.directory / "result.json"
    if result.scorecard is not None and not path.is_file():
        report_scorecard(tracker, result.scorecard, 0)
    tracker.commit(0)
    jobs.write_json(path, result.as_json())
    return result


def _names(folds: int) -> list[str]:
    return [f"{index + 1}/{folds}" for index in range(folds)]


def _begun(job: CrossvalJob) -> dict[str, str]:
    """The run of every fold that has one, by the name of the fold."""
    own = sorted(_runs_of_folds(job), key=lambda one: one["created"])
    return {one["fold"]: one["run_id"] for one in own}


def _runs_of_folds(job: CrossvalJob) -> list[dict[str, Any]]:
    return [one for one in jobs.records() if one["parent"] == job.run_id]


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
    """At most `parallel` folds at once, as Ray tasks. Where one is stopped, or all are to be, those
    under way save and stop too."""
    import ray

    task = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0), max_retries=1)(
        _train_fold
    )
    folds, running, done = _names(job.folds), {}, {}
    waiting = list(folds)
    while waiting or running:
        progress(len(done), job.folds)
        if stopping.is_set():
            waiting.clear()
            for run_id in _begun(job).values():
                (runs_dir() / run_id / "stop").touch()
        while waiting and len(running) < parallel:
            fold = waiting.pop(0)
            running[task.remote(job, fold)] = fold
        ready, _ = ray.wait(list(running), num_returns=1, timeout=0.5) if running else ([], [])
        for reference in ready:
            result = done[running.pop(reference)] = ray.get(reference)
            if result.status == "stopped":
                stopping.set()
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
        resume=_begun(job).get(fold),
    )


def _scorecard(
    results: tuple[launch.RunResult, ...], classes: tuple[Expression, ...], seed: int
) -> dict[str, Any] | None:
    """The scorecard over the test faces of all folds; None where nothing was recognised."""
    if any(result.scorecard is None for result in results):
        return None
    parts = [read_predictions(result.directory / "predictions.npz") for result in results]
    return scorecard(pooled(parts), classes, seed=seed)

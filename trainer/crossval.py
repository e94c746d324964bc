"""One setting over all folds: a parent run with one run per fold, and one pooled scorecard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.home import home, runs_dir, tracking_uri
from cluster.resources import Capacity, share
from data_service.lake import Lake
from data_service.schema import Expression
from trainer import feed, launch
from trainer import job as jobs
from trainer.ancestry import check_unseen, first_weights
from trainer.config import RunConfig, fingerprint
from trainer.evaluate import pooled, read_predictions, scorecard
from trainer.leakage import leak_tags
from trainer.report import report_scorecard
from trainer.tracking import Tracker, create_run


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
    allow_leaks: bool = False,
    synthetic: Path | None = None,
) -> CrossvalResult:
    """Train and test every fold, `parallel` at a time, each in a process of its own.

    `init` names a run of another lake, or a file of weights, that every fold starts from.
    `synthetic`, a pool, is refused, and so is a share of one: it belongs to one fold.
    ValueError when the folds, the lake or the cluster do not fit, or a fold leaks and that is not
    allowed, before anything starts. KeyboardInterrupt where a fold is stopped: none follows it.
    """
    if synthetic is not None or run.data.synthetic_share:
        raise ValueError(
            "a pool of synthetic faces belongs to one fold, crossval trains all; for each fold: "
            "mien synthesise RUN --fold K/N, then mien train --fold K/N --synthetic POOL"
        )
    opened = Lake.open(Path(lake))
    present = opened.manifest.classes
    named = {}
    for index in range(folds):
        fold = f"{index + 1}/{folds}"
        named[fold] = feed.prepare(run, feed.spec_of(run), opened, fold).fold
    check_unseen(run, first_weights(init) if init else None, opened, named)
    leaks = leak_tags(opened, named, allow=allow_leaks)
    uri = tracking_uri()
    home().mkdir(parents=True, exist_ok=True)
    run_id = create_run(
        uri,
        experiment,
        name or f"{run.system_name}.{run.recipe} x{folds} s{run.seed}",
        tags={
            **launch.lake_tags(opened),
            **leaks,
            "mien.kind": "crossval",
            "mien.folds": str(folds),
            "mien.settings": fingerprint(run),
        },
        params=run,
    )
    directory = runs_dir() / run_id
    directory.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(uri, run_id, directory / "journal.jsonl")
    shared = {
        "experiment": experiment,
        "parent": run_id,
        "init": init,
        "init_only": init_only,
        "allow_leaks": allow_leaks,
    }
    try:
        results = tuple(_train_all(run, Path(lake), folds, parallel, shared))
    except BaseException as error:
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    result = CrossvalResult(
        run_id=run_id,
        directory=directory,
        folds=results,
        scorecard=_scorecard(results, jobs.classes_of(run, present), run.seed),
    )
    jobs.write_json(directory / "result.json", result.as_json())
    if result.scorecard is not None:
        report_scorecard(tracker, result.scorecard, 0)
    tracker.commit(0)
    tracker.close("FINISHED")
    return result


def _train_all(
    run: RunConfig, lake: Path, folds: int, parallel: int, shared: Mapping[str, Any]
) -> Iterator[launch.RunResult]:
    names = [f"{index + 1}/{folds}" for index in range(folds)]
    if parallel == 1 or not launch.in_process(run):
        for fold in names:
            yield launch.unstopped(launch.train(run, lake, fold=fold, **shared))
        return
    from cluster.session import connect

    with connect() as session:
        capacity = Capacity(cpus=session.num_cpus, gpus=session.num_gpus, nodes=session.num_nodes)
        portion = share(1, capacity, parallel=parallel)
        threaded = replace(run, engine=replace(run.engine, threads=portion.threads))
        yield from _in_processes(threaded, lake, names, parallel, shared, portion.per_worker)


def _in_processes(
    run: RunConfig,
    lake: Path,
    folds: list[str],
    parallel: int,
    shared: Mapping[str, Any],
    resources: Mapping[str, float],
) -> Iterator[launch.RunResult]:
    """At most `parallel` folds at once, as Ray tasks; results in the order of the folds."""
    import ray

    task = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0), max_retries=1)(
        _train_fold
    )
    waiting, running, done = list(folds), {}, {}
    while waiting or running:
        while waiting and len(running) < parallel:
            fold = waiting.pop(0)
            reference = task.remote(run, lake, fold, shared)
            running[reference] = fold
        (ready,), _ = ray.wait(list(running), num_returns=1)
        done[running.pop(ready)] = launch.unstopped(ray.get(ready))
    yield from (done[fold] for fold in folds)


def _train_fold(
    run: RunConfig, lake: Path, fold: str, shared: Mapping[str, Any]
) -> launch.RunResult:
    return launch.train(run, lake, fold=fold, **shared)


def _scorecard(
    results: tuple[launch.RunResult, ...], classes: tuple[Expression, ...], seed: int
) -> dict[str, Any] | None:
    """The scorecard over the test faces of all folds; None where nothing was recognised."""
    if any(result.scorecard is None for result in results):
        return None
    parts = [read_predictions(result.directory / "predictions.npz") for result in results]
    return scorecard(pooled(parts), classes, seed=seed)

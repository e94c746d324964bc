"""From settings to a trained run: in this process, or by Ray Train where that is not enough."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cluster.home import home, runs_dir, tracking_uri
from cluster.interrupt import on_interrupt
from cluster.lock import held
from cluster.mlflow_store import ensure_store
from cluster.resources import share
from cluster.session import local_capacity
from data_service.lakes.lake import Lake
from data_service.synthesis.live_pool import LiveManifest, LivePool
from data_service.synthesis.pool import SealedPool, pool_place
from trainer import catalog, copies, feed
from trainer import job as jobs
from trainer.ancestry import check_unseen, first_weights, name_of
from trainer.config import RunConfig, fingerprint
from trainer.job import Job
from trainer.leakage import leak_tags
from trainer.restore import check_map
from trainer.session import OnValidation
from trainer.steps import Steps, whole
from trainer.synthetic.live_pool import PREFIX, generator_of, manifest_of, synthesising
from trainer.tracking.moved import told_now
from trainer.tracking.report import deliver_result
from trainer.tracking.tracker import TrackingError, create_run, deliver
from trainer.work import work_in_steps
from trainer.world import World

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What came of a run. `scorecard` (of recognition; None where nothing is recognised) and
    `measures` (all other cards by name) are of test subjects, `validation` of validation subjects.
    """

    run_id: str
    directory: Path
    status: str
    steps: int
    images: int
    images_per_second: float
    first_step_seconds: float
    validation: Mapping[str, float]
    scorecard: Mapping[str, Any] | None
    measures: Mapping[str, Any] = field(default_factory=dict)
    ledger: int = 0
    """What the samples that moved the weights add up to, as in trainer/ledger.py."""

    @classmethod
    def read(cls, directory: Path) -> RunResult:
        """The result that a run left in its directory."""
        values = jobs.read_json(directory / "result.json")
        return cls(directory=directory, **values)

    @classmethod
    def finished(cls, directory: Path) -> RunResult | None:
        """The result of the run in the directory; None where it has not finished."""
        if not (directory / "result.json").is_file():
            return None
        result = cls.read(directory)
        return result if result.status == "finished" else None

    def as_json(self) -> dict[str, Any]:
        """The result as plain values, the scorecard's entries at the top level."""
        values = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in ("directory", "scorecard")
        }
        return {**values, "directory": str(self.directory), **(self.scorecard or {})}


def train_in_steps(
    run: RunConfig,
    lake: Path,
    *,
    fold: str | None = None,
    experiment: str = "mien",
    name: str | None = None,
    parent: str | None = None,
    init: str | None = None,
    init_only: str = "*",
    init_map: Sequence[str] = (),
    resume: str | None = None,
    on_validation: OnValidation | None = None,
    validation_only: bool = False,
    allow_leaks: bool = False,
    synthetic: str | Path | None = None,
    seen_by: str | None = None,
) -> Steps[RunResult]:
    """Train one run and test it once on the fold's test subjects.

    `init` is a finished run, or a file of weights, that it starts from, for the parameters whose
    names match the pattern `init_only` and whose shapes fit; each `init_map` says, as OLD=NEW, how
    names there begin here. `synthetic` is a sealed pool of this lake and fold, of which
    `data.synthetic_share` is drawn; `live:RUN` has the faces made by that run meanwhile; the folder
    `live` of a run that was trained so replays what that one saw.
    `resume` names a run to go on with; everything else then comes from it. One that has finished is
    returned as it is (its test subjects are touched once), and MLflow is told what it missed. That
    may have another address by now: ValueError where no MLflow has a run that goes on,
    TrackingError where none can be asked.
    `on_validation` sees (images, metrics) after every validation and ends the run by returning
    True; it needs one worker in this process, where every run of one worker is trained unless
    `RAY_ADDRESS` names a cluster for it. ValueError says what of the settings does not fit the
    lake or the cluster, or what stands on more than one side of the fold; with `allow_leaks` the
    run's record says that.
    `seen_by` is the study, if any, that chose the settings by the fold's test subjects: also said.
    """
    if resume is not None:
        job = jobs.load(jobs.find(resume))
        if done := _taken_over(job):
            return done
    else:
        job = _new_job(
            run,
            lake,
            fold=fold,
            experiment=experiment,
            name=name,
            parent=parent,
            init=init,
            init_only=init_only,
            init_map=init_map,
            validation_only=validation_only,
            allow_leaks=allow_leaks,
            synthetic=synthetic,
            seen_by=seen_by,
        )
    here = in_process(job.run) and (on_validation is not None or not _is_sent_away())
    busy = f"run {job.run_id} is being trained by another process"
    with held(job.directory / "lock", busy):
        if resume is not None:
            if done := _taken_over(job):  # by now: another process has just given the lock back
                return done
            job = told_now(job)
            job.stop_file.unlink(missing_ok=True)
        with _told_of_failure(job), on_interrupt(job.stop_file.touch), synthesising(job):
            if here:
                device = "cuda" if torch.cuda.is_available() else "cpu"
                yield from work_in_steps(job, World.alone(device), on_validation)
            elif on_validation is not None:
                raise ValueError("on_validation needs engine.workers=1 and engine.zero=none")
            else:
                from trainer.group import train_on_ray

                train_on_ray(job)
    return RunResult.read(job.directory)


train = whole(train_in_steps)


def _taken_over(job: Job) -> RunResult | None:
    """The result of a run that has finished, once MLflow is told what it missed; else None."""
    if done := RunResult.finished(job.directory):
        try:
            deliver_result(job)
        except (ValueError, TrackingError) as error:
            LOG.warning("run %s has more to tell: %s", job.run_id, error)
    return done


@contextmanager
def failed_unless_begun(uri: str, run_id: str) -> Iterator[None]:
    """What MLflow has as a run, and cannot be written down here, has failed there too."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except BaseException:
        if (runs_dir() / run_id / "run.json").is_file():
            jobs.set_status(runs_dir() / run_id, "failed")
        with suppress(MlflowException, SQLAlchemyError):  # the first error is the one to tell
            ensure_store(uri).set_terminated(run_id, "FAILED")
        raise


@contextmanager
def _told_of_failure(job: Job) -> Iterator[None]:
    """What fails before the training could say so itself is said here, on disk and in MLflow."""
    try:
        yield
    except Exception:
        if _says_it_goes_on(job):
            jobs.set_status(job.directory, "failed")
            deliver(job.tracking_uri, job.run_id, job.journal, "FAILED", timeout_seconds=15.0)
        raise


def _says_it_goes_on(job: Job) -> bool:
    try:
        return jobs.read_json(job.directory / "status.json")["state"] in jobs.LIVE
    except (ValueError, KeyError):
        return True


def unstopped(result: RunResult) -> RunResult:
    """The result, for whoever trains one run after another; KeyboardInterrupt if it was stopped."""
    if result.status == "stopped":
        raise KeyboardInterrupt(
            f"run {result.run_id} was stopped; to go on with it: mien train --resume "
            f"{result.run_id}"
        )
    return result


def in_process(run: RunConfig) -> bool:
    """Whether the run needs neither Ray nor DeepSpeed."""
    return run.engine.workers == 1 and run.engine.zero is None


def _is_sent_away() -> bool:
    """Whether this process is to train on the cluster at `RAY_ADDRESS`, and is no part of it."""
    if not os.environ.get("RAY_ADDRESS"):
        return False
    import ray

    return not ray.is_initialized()


def _new_job(
    run: RunConfig,
    lake: Path,
    *,
    fold: str | None,
    experiment: str,
    name: str | None,
    parent: str | None,
    init: str | None,
    init_only: str,
    init_map: Sequence[str],
    validation_only: bool,
    allow_leaks: bool,
    synthetic: str | Path | None,
    seen_by: str | None,
) -> Job:
    """Check everything that can be checked before anything starts, then write the run down."""
    check_map(init, init_map)
    if not in_process(run) and (offered := local_capacity()):
        share(run.engine.least, offered)
    if run.checkpoint.copy_to is not None:
        copies.check(run.checkpoint.copy_to)
    opened = Lake.open(Path(lake))
    spec = catalog.load(run.system_name)
    fold = feed.default_fold(opened) if fold is None else fold
    data = feed.prepare(run, spec, opened, fold)
    if not validation_only and not len(data.fold.test_rows):
        raise ValueError(f"fold {fold} tests nobody, and a run ends with its test; valid: K/N")
    live, pool = _synthetic_faces(synthetic, run, opened, data, fold)
    feed.check_system(run, spec, data, opened, pool)
    weights = first_weights(init) if init else None
    tested = {} if validation_only else {fold: data.fold}
    generator = live.run if live else pool.manifest.run if pool else None
    unchecked = check_unseen(run, weights, opened, tested, generator=generator)
    leaks = leak_tags(opened, {fold: data.fold}, allow=allow_leaks, seen_by=seen_by)
    uri = tracking_uri()
    home().mkdir(parents=True, exist_ok=True)
    tags = lake_tags(opened) | unchecked | leaks
    tags |= {"mien.fold": fold, "mien.settings": fingerprint(run)}
    tags |= {"mien.landmarks": str(data.info.landmarks)} if data.info.landmarks else {}
    tags |= {"mien.init": name_of(weights)} if weights else {}
    tags |= {"mien.init_only": init_only} if weights and init_only != "*" else {}
    tags |= {"mien.init_map": " ".join(init_map)} if init_map else {}
    tags |= {"mien.synthetic": f"{PREFIX}{live.run}"} if live else {}
    tags |= pool_tags(pool) if pool else {}
    name = name or f"{run.system_name}.{run.recipe} {fold} s{run.seed}"
    run_id = create_run(uri, experiment, name, parent=parent, tags=tags, params=run)
    job = Job(
        run_id=run_id,
        directory=runs_dir() / run_id,
        run=run,
        lake=Path(lake).absolute(),
        lake_hash=opened.hash,
        face_pixels=opened.manifest.image_size,
        fold=fold,
        tracking_uri=uri,
        experiment=experiment,
        parent=parent,
        init=weights,
        init_only=init_only,
        init_map=tuple(init_map),
        validation_only=validation_only,
        pool=pool.path.absolute() if pool else None,
        pool_hash=pool.hash if pool else "",
        live=live.run if live else "",
    )
    with failed_unless_begun(uri, run_id):
        jobs.save(job)
        if run.checkpoint.copy_to is not None:
            copies.begin(run.checkpoint.copy_to, job.directory)
        if live:
            LivePool.create(job.live_pool, live)
    jobs.set_status(job.directory, "starting", step=0, images=0)
    return job


def _synthetic_faces(
    synthetic: str | Path | None, run: RunConfig, lake: Lake, data: feed.TrainingData, fold: str
) -> tuple[LiveManifest | None, SealedPool | LivePool | None]:
    """What makes synthetic faces beside the run, or the pool that has them; or neither."""
    if generator := generator_of(synthetic):
        return manifest_of(generator, run, lake, data, fold), None
    path = None if synthetic is None else pool_place(synthetic)
    return None, feed.given_pool(run, path, lake, data, fold)


def lake_tags(lake: Lake) -> dict[str, str]:
    """What MLflow is told of the lake."""
    return {"mien.lake": lake.path.name, "mien.lake_hash": lake.hash}


def pool_tags(pool: SealedPool | LivePool) -> dict[str, str]:
    """What MLflow is told of the pool that a run is given."""
    return {"mien.synthetic": pool.path.name, "mien.synthetic_hash": pool.hash}

"""Training with faces that are made while it goes on: `mien train --synthetic live:RUN`.

A Ray actor of a finished run makes faces of the fold's training subjects, has them judged by the
gate of `trainer.synthetic.admission`, and puts batch after batch into the new run's live pool; what
a step may show of it stands in the pool's ledger. The actor takes no CPU or GPU that the training
counts on and gives way to it; until its judges are trained and its first faces admitted, and
wherever it is too slow, real faces take their place.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cluster.home import home
from data_service.lakes.lake import Lake
from data_service.synthesis.attempts import Admission
from data_service.synthesis.live_pool import PARTS, LiveManifest, LivePool
from data_service.synthesis.pool import EXAMPLE_SCHEMA
from trainer import job as jobs
from trainer.config import EngineConfig, PoolConfig, RunConfig
from trainer.feed import TrainingData
from trainer.job import Job
from trainer.synthetic.pool_pictures import pool_pictures
from trainer.synthetic.synthesise import Source

if TYPE_CHECKING:
    from trainer.tracking.tracker import Tracker

PREFIX = "live:"
LOG = logging.getLogger(__name__)


def generator_of(synthetic: str | Path | None) -> str | None:
    """RUN of `live:RUN`; None where that names a pool on disk, or nothing."""
    name = str(synthetic or "")
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else None


def manifest_of(
    generator: str, run: RunConfig, lake: Lake, data: TrainingData, fold: str
) -> LiveManifest:
    """What the run's live pool is to hold.

    Every class is filled to the largest, and on until the share needs no synthetic face more often
    than a real one. ValueError where the run `generator` may not, or cannot, make those faces, or
    where `run` has no share of them.
    """
    if run.synthesis is not None:
        raise ValueError(
            f"{run.system_name}.{run.recipe} makes its own synthetic faces; without --synthetic, "
            "or another recipe"
        )
    if not run.data.synthetic_share:
        raise ValueError(f"{PREFIX}{generator} needs data.synthetic_share, such as --share 0.3")
    source = Source.of(generator, lake.path, fold)
    if source.data.fold.hash != data.fold.hash:
        raise ValueError(
            f"run {source.job.run_id} knows {', '.join(source.data.classes)}; the classes to be "
            f"trained are {', '.join(data.classes)}"
        )
    sizes, share = data.info.class_images, run.data.synthetic_share
    more = math.ceil(sum(sizes) * share / (1 - share) / len(sizes))
    return LiveManifest(
        lake=lake.hash,
        fold=data.fold.hash,
        fold_name=fold,
        run=source.job.run_id,
        classes=tuple(map(str, data.classes)),
        until=max(sizes) + more,
        image_size=lake.manifest.image_size,
        channels=lake.manifest.channels,
    )


@contextmanager
def synthesising(job: Job) -> Iterator[None]:
    """Has the run's live pool filled for the length of the block, where it has one to fill.

    What ends the synthesis early ends no training; the log tells of it.
    """
    if not job.live:
        yield
        return
    import ray

    from cluster.session import connect

    with connect(log_file=job.directory / "log.txt") as session:
        share, devices = _place(job.run.engine, int(session.capacity.gpus))
        remote = ray.remote(
            num_cpus=0,
            num_gpus=share,
            max_restarts=3,
            max_task_retries=3,
            runtime_env={"env_vars": {"MIEN_HOME": str(home()), **devices}},
        )
        actor = remote(_Filler).remote()
        filled = actor.fill.remote(job.directory)
        try:
            yield
        finally:
            _tell_of_failure(filled, job)
            ray.kill(actor)  # pyright: ignore[reportArgumentType] - the proxy of a handle


def _place(engine: EngineConfig, gpus: int) -> tuple[float, dict[str, str]]:
    """How many GPUs the generator asks Ray for, and which it is shown where it asks for none.

    Of a cluster's it has one that the workers, each of which has one of its own, leave. Beside a
    run that is trained in this process, which takes none from Ray, it has this machine's second,
    or shares the only one.
    """
    if engine.workers == 1 and engine.zero is None and not os.environ.get("RAY_ADDRESS"):
        given = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
        return 0.0, {"CUDA_VISIBLE_DEVICES": ",".join(given.split(",")[:2][-1:])}
    if gpus > engine.workers:
        return 1.0, {}
    return 0.0, {"CUDA_VISIBLE_DEVICES": ""}  # Ray hides none from who asks for none


def _tell_of_failure(filled: Any, job: Job) -> None:
    import ray

    ended, _ = ray.wait([filled], timeout=0)
    try:
        if ended:
            ray.get(ended)
    except Exception as error:
        last = str(error).strip().splitlines()[-1]
        LOG.warning("run %s has no more faces by %s: %s", job.run_id, job.live, last)


class _Filler:
    def fill(self, directory: Path) -> None:
        os.nice(10)
        job = jobs.load(directory)
        live = LivePool(job.live_pool)
        source = Source.of(live.manifest.run, job.lake, live.manifest.fold_name)
        config = PoolConfig(until=live.manifest.until)
        out = job.directory / "pool"
        source.fill(self.gate(source, config), config, out, parts=live.path / PARTS)

    def gate(self, source: Source, config: PoolConfig) -> Admission:
        return source.gate(config)


def report(tracker: Tracker, pool: LivePool, lake: Lake, images: int) -> None:
    """What the gate let pass while the run trained, and what not, for MLflow."""
    attempts, admitted, refused = Counter(), Counter(), Counter()
    examples = [EXAMPLE_SCHEMA.empty_table()]
    for part in pool.parts():
        attempts[part.klass] += part.judged
        admitted[part.klass] += part.admitted.num_rows
        refused.update(part.refused)
        examples.append(part.examples)
    names = pool.manifest.classes
    rates = {names[klass]: admitted[klass] / tried for klass, tried in attempts.items()}
    metrics = {f"synthetic/admission_rate/{name}": rate for name, rate in rates.items()}
    metrics |= {f"synthetic/refused/{reason}": count for reason, count in refused.items()}
    faces = sum(admitted.values())
    tracker.metrics(metrics | {"synthetic/faces": faces}, images)
    pictures = pool_pictures(pool.table(faces), pool, pa.concat_tables(examples), lake)
    for name, picture_HW3 in pictures.items():
        tracker.image(name, picture_HW3, images)

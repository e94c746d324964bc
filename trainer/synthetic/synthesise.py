"""A sealed pool of synthetic faces by a finished run, for others to be trained with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cluster.session import connect
from data_service.lakes.lake import Lake
from data_service.synthesis.attempts import Admission, Synthesiser, on_ray
from data_service.synthesis.fill import Progress
from data_service.synthesis.pool import SealedPool
from trainer import feed
from trainer import job as jobs
from trainer.ancestry import require_unseen
from trainer.config import PoolConfig
from trainer.feed import default_fold
from trainer.job import Job
from trainer.restore import LoadedSystem, best_device, load_capable
from trainer.synthetic.admission import CrossFittedGate
from trainer.synthetic.fesda import Generator, fill


def synthesise(
    run: str,
    lake: Path,
    out: Path,
    *,
    fold: str | None = None,
    until: Literal["equal"] | int = "equal",
    gate: float = 0.7,
    actors: int = 0,
    progress: Progress | None = None,
) -> SealedPool:
    """Fills the classes of the fold's training faces with faces that the run makes of them.

    `until` and `gate` are those of `PoolConfig`; the fold is by default the run's own where it was
    trained on this very lake, else the one that training takes. With `actors`, so many Ray actors
    make the faces, on equal shares of the GPUs or on a CPU each; the pool is the same for any
    number of them. The same call goes on where it was interrupted. ValueError where the run does
    not synthesise, its faces are not this lake's, or it learnt of subjects that the fold holds out.
    """
    config = _config(until, gate)
    source = Source.of(run, Path(lake), fold)
    judged = source.gate(config)
    pour = partial(source.fill, judged, config, Path(out), progress=progress)
    if not actors:
        return pour()
    makers = partial(_makers, source.loaded.directory, judged)
    with connect(), on_ray(source.lake.path.absolute(), makers, actors) as crew:
        return pour(crew=crew)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Source:
    """A finished run that is to make faces of a fold's training subjects."""

    loaded: LoadedSystem
    job: Job
    lake: Lake
    fold: str
    data: feed.TrainingData

    @classmethod
    def of(cls, run: str | Path, lake: Path, fold: str | None) -> Source:
        """ValueError where the run does not synthesise, its faces are not this lake's, or it learnt
        of subjects that the fold holds out. The fold is by default as `synthesise` says."""
        loaded, opened = _loaded(run), Lake.open(lake)
        job = jobs.load(loaded.directory)
        if fold is None:
            fold = job.fold if job.lake_hash == opened.hash else default_fold(opened)
        data = _data(loaded, opened, fold)
        require_unseen(loaded.directory / "weights.safetensors", opened, data.fold, fold)
        return cls(loaded=loaded, job=job, lake=opened, fold=fold, data=data)

    def gate(self, config: PoolConfig) -> CrossFittedGate:
        """The gate by judges of the fold's training subjects: trained, or read where kept."""
        return CrossFittedGate.train(
            self.loaded.run, self.loaded.system, self.data, self.lake, config
        )

    def fill(self, gate: Admission, config: PoolConfig, out: Path, **options: Any) -> SealedPool:
        """A pool at `out`; the options are those of `trainer.synthetic.fesda.fill`."""
        return fill(
            self.job,
            self.loaded.system,
            gate,
            self.data,
            self.lake,
            config,
            out,
            fold=self.fold,
            **options,
        )


def _makers(run: Path, gate: CrossFittedGate) -> tuple[Synthesiser, Admission]:
    """Generator and gate, in an actor."""
    loaded = _loaded(run)
    return Generator(loaded.system, loaded.run), gate


def _loaded(run: str | Path) -> LoadedSystem:
    return load_capable(run, "synthesise", best_device())


def _config(until: Literal["equal"] | int, gate: float) -> PoolConfig:
    if until != "equal" and until < 1:
        raise ValueError(f"until is {until}; valid: equal, or faces of every class, at least 1")
    if not 0 <= gate <= 1:
        raise ValueError(f"gate is {gate}; valid: 0 to 1, the least confidence of the recogniser")
    return PoolConfig(until=until, gate=gate)


def _data(loaded: LoadedSystem, lake: Lake, fold: str) -> feed.TrainingData:
    """The fold for the classes that the run knows; its targets are their numbers."""
    loaded.require_channels(lake)
    known = replace(loaded.run.data, classes=loaded.info.classes)
    return feed.prepare(replace(loaded.run, data=known), loaded.spec, lake, fold)


def told(pool: SealedPool) -> dict[str, Any]:
    """What is printed of a pool: where it is, whose, and its counts and rates by expression."""
    own = pool.manifest
    return {
        "pool": str(pool.path),
        "hash": pool.hash,
        "run_id": own.run,
        "lake_hash": own.lake,
        "fold": own.fold_name,
        "faces": len(pool),
        "wanted": dict(own.wanted),
        "admitted": dict(own.admitted),
        "attempts": dict(own.attempts),
        "admission_rates": own.admission_rates,
        "refused": dict(own.refused),
    }

"""FES-DA: a generator fills the minority classes, through a gate, in a run or after it.

As in FERSNet (Zhao et al., ICPR 2020, "FES-DA"); the gate is `trainer.synthetic.admission`'s.
Shapes: B faces, C channels, S side.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from data_service.lakes.lake import Lake
from data_service.lakes.manifest import MANIFEST
from data_service.synthesis.attempts import Admission, Crew
from data_service.synthesis.fill import Progress, seal_pool
from data_service.synthesis.pool import SealedPool
from trainer.config import PoolConfig, RunConfig
from trainer.feed import TrainingData
from trainer.job import Job
from trainer.scorecard.evaluate import evaluating
from trainer.synthetic.admission import CrossFittedGate, content_hash
from trainer.system import FaceBatch, System
from trainer.training import Training


def seal(job: Job, training: Training, data: TrainingData, lake: Lake) -> SealedPool:
    """The run's pool, made by rank 0 from the generator as it stands, or opened if it is there.

    With averaged weights where the system keeps them. Every rank must call. A run that goes on
    behind the stage that made the pool has other weights by then, and the pool stays what it was.
    """
    config = job.run.synthesis
    assert config is not None, "only runs with synthesis settings seal a pool"
    path = job.directory / "pool"
    sealed = path / MANIFEST
    if training.world.leads and not sealed.is_file():
        with training.averages.applied():
            gate = CrossFittedGate.train(job.run, training.system, data, lake, config)
            fill(job, training.system, gate, data, lake, config, path)
    while not sealed.is_file():  # not in a collective, whose patience ends before large pools do
        time.sleep(0.2)
    training.world.barrier()
    pool = SealedPool.open(path)
    pool.require(lake, data.fold, job.fold)
    if training.world.leads:
        pool.verify()
    return pool


def fill(
    job: Job,
    system: System,
    gate: Admission,
    data: TrainingData,
    lake: Lake,
    config: PoolConfig,
    path: Path,
    *,
    fold: str | None = None,
    progress: Progress | None = None,
    crew: Crew | None = None,
    parts: Path | None = None,
) -> SealedPool:
    """A pool for the training faces of `data`, by the system of the run `job` as it stands.

    `fold` is what the division of `data` is called, where it is not the run's. A `crew` makes the
    faces by the same generator and gate. In `parts` its finished batches stay.
    """
    return seal_pool(
        lake,
        data.fold,
        data.classes,
        Generator(system, job.run),
        gate,
        path=path,
        until=config.until,
        copy_gate=config.copy_gate,
        seed=job.run.seed,
        fold_name=fold or job.fold,
        run=job.run_id,
        progress=progress,
        crew=crew,
        parts=parts,
    )


class Generator:
    """A system as `data_service.synthesis.attempts.Synthesiser`."""

    def __init__(self, system: System, run: RunConfig) -> None:
        self._system = system
        self.side, self.grey = run.data.image_size, run.data.grey
        players = system.players()
        states = {player.name: player.module.state_dict() for player in players}
        self.hash = content_hash(states | {"": system.state_dict()})
        self._device = _device(players[0].module) if players else torch.device("cpu")

    def __call__(self, faces_BCHW: Tensor, target_expression_B: Tensor) -> Tensor:
        """The faces with the target expressions, on the CPU, in [-1, 1]."""
        with torch.no_grad(), evaluating(self._system):
            batch = _bare(faces_BCHW, target_expression_B)
            made = self._system.predict(batch.to(self._device)).images_BCHW
        assert made is not None, "only systems that synthesise make pools"
        return made.float().clamp(-1, 1).cpu()


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _bare(faces_BCHW: Tensor, target_expression_B: Tensor) -> FaceBatch:
    count_B = torch.arange(len(faces_BCHW))
    return FaceBatch(
        faces_BCHW=faces_BCHW,
        expression_B=target_expression_B,
        target_expression_B=target_expression_B,
        subject_B=torch.full_like(count_B, -1),
        row_B=count_B,
        key_B=count_B,
        synthetic_B=torch.zeros(len(count_B), dtype=torch.bool),
    )

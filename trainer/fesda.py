"""FES-DA: a generator fills the minority classes, through a gate, in a run or after it.

As in FERSNet (Zhao et al., ICPR 2020, "FES-DA"). A synthetic face is admitted when a recogniser
that never saw its source subject reads the target expression with enough confidence, the identity
network (where the system has one) sees the same subject, and it is no near-copy of another admitted
face of the same source. Shapes: B faces, C channels, S side, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_service.lake import Lake
from data_service.pool import SealedPool
from data_service.synthesis import Attempts, Progress, Verdict, seal_pool
from trainer.config import PoolConfig, RunConfig
from trainer.evaluate import evaluating
from trainer.feed import TrainingData
from trainer.job import Job
from trainer.judge import Judge, expression_judge
from trainer.loop import Training
from trainer.system import FaceBatch, System

JUDGE_IMAGES = 12288
"""Images that each of the two cross-fitted judges is trained on."""
_JUDGE_SEEDS = (11, 12)


def seal(job: Job, training: Training, data: TrainingData, lake: Lake) -> SealedPool:
    """The run's pool, made by rank 0 from the generator as it stands, or opened if it is there.

    With averaged weights where the system keeps them. Every rank must call.
    """
    config = job.run.synthesis
    assert config is not None, "only runs with synthesis settings seal a pool"
    path = job.directory / "pool"
    if training.world.leads:
        with training.averages.applied():
            fill(job, training.system, data, lake, config, path)
    training.world.barrier()
    return SealedPool.open(path)


def fill(
    job: Job,
    system: System,
    data: TrainingData,
    lake: Lake,
    config: PoolConfig,
    path: Path,
    *,
    fold: str | None = None,
    progress: Progress | None = None,
) -> SealedPool:
    """A pool for the training faces of `data`, by the system of the run `job` as it stands.

    `fold` is what the division of `data` is called, where it is not the run's.
    """
    return seal_pool(
        lake,
        data.fold,
        data.classes,
        Generator(system, job.run),
        CrossFittedGate.train(job.run, system, data, lake, config),
        path=path,
        until=config.until,
        seed=job.run.seed,
        fold_name=fold or job.fold,
        run=job.run_id,
        progress=progress,
    )


def content_hash(states: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Names networks by their weights."""
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(states):
        for key, value in states[name].items():
            digest.update(f"{name}/{key}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Generator:
    """A system as `data_service.synthesis.Synthesiser`."""

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


@dataclass(kw_only=True, eq=False)
class CrossFittedGate:
    """The gate, as `data_service.synthesis.Admission`.

    `judges[h]` was trained on the training subjects of the other half than `half_of_row` says.
    """

    config: PoolConfig
    judges: tuple[Judge, Judge]
    half_of_row: np.ndarray
    identity: nn.Module | None
    hash: str

    @classmethod
    def train(
        cls, run: RunConfig, system: System, data: TrainingData, lake: Lake, config: PoolConfig
    ) -> CrossFittedGate:
        """Two judges, each trained on one half of the training subjects."""
        rows_N = np.asarray(data.fold.train_rows)
        half_of_row = _halves(lake, rows_N)
        first, second = (
            expression_judge(
                lake,
                rows_N[half_of_row[rows_N] != half],
                run,
                data.info,
                seed=run.seed + _JUDGE_SEEDS[half],
                images=JUDGE_IMAGES,
            )
            for half in (0, 1)
        )
        judges = (first, second)
        identity = system.frozen().get("identity")
        named = {"judge 0": judges[0], "judge 1": judges[1]}
        networks = named | ({"identity": identity} if identity else {})
        states = {name: network.state_dict() for name, network in networks.items()}
        thresholds = (config.gate, config.identity_gate, config.copy_gate)
        return cls(
            config=config,
            judges=judges,
            half_of_row=half_of_row,
            identity=identity,
            hash=f"{content_hash(states)}/{thresholds}",
        )

    @torch.no_grad()
    def __call__(self, attempts: Attempts) -> Verdict:
        """Confidence first, then identity, then nearness to what is already admitted."""
        made, target_B = attempts.made_BCHW, attempts.target_expression_B
        half_B = torch.from_numpy(self.half_of_row[attempts.source_rows])
        share_BK = torch.stack([judge(made).softmax(1) for judge in self.judges])[
            half_B, torch.arange(len(made))
        ]
        sure_B = share_BK.gather(1, target_B.view(-1, 1)).squeeze(1) >= self.config.gate
        same_B = self._same_subject(made, attempts.source_BCHW)
        new_B = torch.tensor(
            [self._is_new(face, near) for face, near in zip(made, attempts.siblings, strict=True)]
        )
        reasons = [
            "" if ok else "expression" if not sure else "identity" if not same else "near copy"
            for ok, sure, same in zip(
                (sure_B & same_B & new_B).tolist(), sure_B.tolist(), same_B.tolist(), strict=True
            )
        ]
        return Verdict(
            admitted_B=(sure_B & same_B & new_B).numpy(),
            reasons=tuple(reasons),
        )

    def _same_subject(self, made_BCHW: Tensor, source_BCHW: Tensor) -> Tensor:
        if self.identity is None:
            return torch.ones(len(made_BCHW), dtype=torch.bool)
        embed, device = self.identity.embed, _device(self.identity)
        made_BD = embed(made_BCHW.to(device))  # type: ignore[operator]
        source_BD = embed(source_BCHW.to(device))  # type: ignore[operator]
        return (made_BD * source_BD).sum(1).cpu() >= self.config.identity_gate

    def _is_new(self, face_CSS: Tensor, siblings_NCSS: Tensor) -> bool:
        if not len(siblings_NCSS):
            return True
        gap_N = (siblings_NCSS - face_CSS).abs().mean((1, 2, 3)) / 2
        return bool(gap_N.min() >= self.config.copy_gate)


def _halves(lake: Lake, rows_N: np.ndarray) -> np.ndarray:
    """0 or 1 for every row of the lake: the half that its subject belongs to, alternating."""
    names = np.array([name or "" for name in lake.table["subject"].to_pylist()])
    subjects = {name: index % 2 for index, name in enumerate(np.unique(names[rows_N]))}
    half_N = np.array([subjects.get(name, 0) for name in names])
    alone = names == ""
    half_N[alone] = np.flatnonzero(alone) % 2
    return half_N

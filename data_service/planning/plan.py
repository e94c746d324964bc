"""Which face stands where in which step: a pure function of lake, fold, seed and step.

Nothing is drawn in sequence, so any step can be computed alone: a run resumes at any step, on any
number of workers, and every worker takes its slice of the same global batch.
Shapes: B samples of a step, N training faces of a stage, K classes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from data_service import seeds
from data_service.folds import Fold
from data_service.lakes.window import Pieces, Window
from data_service.planning.draws import Labels, LakeRows, StageDraws
from data_service.planning.needs import DataNeeds
from data_service.planning.synthetic_slots import LiveRows, PoolRows
from data_service.schema import Expression
from data_service.synthesis.live_pool import LivePool

__all__ = ["DataNeeds", "Plan", "StagePlan", "StepPlan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """How many images a stage lasts (rounded up to whole steps), and what it needs."""

    images: int
    needs: DataNeeds = field(default_factory=DataNeeds)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepPlan:
    """The global batch of one step. A row at or above the lake's length is one of the pool.

    `expression`, `target_expression` and the partners' expressions index the run's classes,
    `subject` the training subjects (-1: unknown). `key` (uint64) is different for every sample of
    the run; all that is random about a sample is drawn from it.
    """

    step: int
    stage: int
    images_before: int
    rows: np.ndarray
    expression: np.ndarray
    target_expression: np.ndarray
    subject: np.ndarray
    key: np.ndarray
    synthetic: np.ndarray
    partner_rows: Mapping[str, np.ndarray]
    partner_expression: Mapping[str, np.ndarray]
    partner_valid: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)

    def shard(self, rank: int, world: int) -> StepPlan:
        """The slice of the batch that worker `rank` of `world` takes."""
        part = slice(len(self) * rank // world, len(self) * (rank + 1) // world)
        values = {item.name: _sliced(getattr(self, item.name), part) for item in fields(self)}
        return StepPlan(**values)


def _sliced(value: Any, part: slice) -> Any:
    if isinstance(value, np.ndarray):
        return value[part]
    if isinstance(value, Mapping):
        return {name: array[part] for name, array in value.items()}
    return value


class Plan:
    """The plan of a whole run over all its stages.

    Of a stage's samples, real ones run through all its training faces in epochs: every face exactly
    once per epoch, in a new order each time; an epoch may end within a batch. With `balance`, every
    round of K draws has each class once, so that counts of classes never differ by more than one,
    and each class runs through its own faces in epochs. Synthetic samples run through the pool in
    epochs too; after any number of samples their share is exact, rounded down: the asked one, or
    what `draws.most_share` allows. A new stage starts new epochs. Only training rows of the fold,
    and faces made from them, are ever drawn.

    With `labels` votes a sample's class is drawn anew, each time that its face is shown, in
    proportion to the votes on the face; a face without votes keeps its own class. Epochs and
    rounds of `balance` count faces and classes as they are given.

    Without classes every training face is drawn, whatever its expression, which is -1.

    With a `window` neighbours in the lake stay near each other within an epoch, so that a lake
    larger than memory is read in pieces; partners come from all of it, and so do the faces of a
    stage with `balance`, whose classes go through the lake at speeds of their own.

    `pool` is the table of a sealed pool (source_row, expression), or a live pool; a stage with a
    share of synthetic faces cannot be stepped without one. With a live one a step is a function of
    the pool's ledger too, and the share holds over a stage, as far as the faces come in time.
    """

    def __init__(
        self,
        table: pa.Table,
        fold: Fold,
        classes: Sequence[Expression],
        stages: Sequence[StagePlan],
        batch_images: int,
        seed: int,
        pool: pa.Table | LivePool | None = None,
        labels: Labels = "given",
        window: Window | None = None,
    ) -> None:
        if not stages or batch_images < 1:
            raise ValueError("a plan needs a stage and a batch of at least one image")
        self.classes = tuple(classes)
        self.stages = tuple(stages)
        self.seed = seed
        self._lake = LakeRows(table, fold, self.classes, labels)
        self._pool = None if pool is None else self._rows_of(pool)
        self.window = window
        self._batches = [stage.needs.batch_images or batch_images for stage in stages]
        num_steps = [
            -(-stage.images // batch) for stage, batch in zip(stages, self._batches, strict=True)
        ]
        self._starts = [0, *accumulate(num_steps)]
        per_stage = [steps * batch for steps, batch in zip(num_steps, self._batches, strict=True)]
        self._images_before = [0, *accumulate(per_stage)]
        self._draws: dict[int, StageDraws] = {}
        for index, stage in enumerate(stages):
            if stage.needs.synthetic_share == 0:
                self._stage_draws(index)

    @property
    def num_steps(self) -> int:
        """Steps of all stages together."""
        return self._starts[-1]

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names of the fold's training subjects; `subject` indexes them."""
        return self._lake.subjects

    def batch_images(self, stage: int) -> int:
        """Images of one step of a stage, over all workers."""
        return self._batches[stage]

    def steps_of(self, stage: int) -> range:
        """The steps of a stage."""
        return range(self._starts[stage], self._starts[stage + 1])

    def stage_of(self, step: int) -> int:
        """The stage that a step belongs to."""
        if not 0 <= step < self.num_steps:
            raise ValueError(f"step {step}; the plan has steps 0 to {self.num_steps - 1}")
        return bisect_right(self._starts, step) - 1

    def step(self, step: int) -> StepPlan:
        """The global batch of a step."""
        stage = self.stage_of(step)
        within = (step - self._starts[stage]) * self._batches[stage]
        images_before = self._images_before[stage] + within
        counter_B = np.arange(self._batches[stage])
        key_B = seeds.keys(self.seed, "slot", counter_B + images_before)
        drawn = self._stage_draws(stage).draw(counter_B + within, key_B)
        return StepPlan(step=step, stage=stage, images_before=images_before, key=key_B, **drawn)

    def pieces(self, stage: int) -> Pieces | None:
        """What to read when of a lake larger than memory; None for a stage without a window."""
        return self._stage_draws(stage).pieces()

    def _stage_draws(self, stage: int) -> StageDraws:
        if stage not in self._draws:
            self._draws[stage] = StageDraws(
                stage,
                self.stages[stage].needs,
                self._lake,
                self._pool,
                self.seed,
                self._batches[stage],
                self.window,
            )
        return self._draws[stage]

    def _rows_of(self, pool: pa.Table | LivePool) -> PoolRows:
        rows = LiveRows if isinstance(pool, LivePool) else PoolRows
        return rows(pool, self._lake.train, self.classes)

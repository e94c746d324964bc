"""What moves while a run trains, and a step of it before and after it is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.averages import Averages
from trainer.config import RunConfig
from trainer.engines import PlayerEngine
from trainer.nets.norm import BatchNorm, batch_norms
from trainer.system import FaceBatch, Player, Progress, Stage, StepContext, System, Turn
from trainer.world import World


@dataclass(kw_only=True, slots=True, eq=False)
class Training:
    """Everything that moves while a run trains; a checkpoint is a picture of it."""

    run: RunConfig
    system: System
    world: World
    stages: tuple[Stage, ...]
    players: dict[str, Player]
    averages: Averages
    progress: Progress
    engines: dict[str, PlayerEngine] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    pending_moments: dict[str, Tensor] = field(default_factory=dict)
    ledger: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    """This rank's part of the sum of `trainer.ledger`."""
    moving: str | None = None
    kin: str = ""
    """Trainings of one kin may take their steps together; see `trainer.kin`. Empty: of none."""
    norms: dict[str, tuple[BatchNorm, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.norms = {name: batch_norms(player.module) for name, player in self.players.items()}

    @property
    def stage(self) -> Stage:
        """The stage that the next step belongs to, or the last one when all is done."""
        return self.stages[min(self.progress.stage, len(self.stages) - 1)]

    def batch_images(self, stage: Stage) -> int:
        """Images of one global step of `stage`."""
        own = stage.data.batch_images if stage.data else None
        return own or self.run.data.global_batch_images


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepResult:
    """One step: where the run stands after it, this rank's raw terms, weights, signals."""

    progress: Progress
    stage: str
    step_images: int
    terms: Mapping[str, Tensor]
    weights: Mapping[str, float]
    signals: tuple[bool, ...]


@dataclass(kw_only=True, slots=True, eq=False)
class DueStep:
    """A step whose batch is there; who drives several trainings of one worker may take theirs.

    `weights` are those of all terms now. `found` is what came of it where it has been taken: the
    raw terms, or the error to be raised in this training.
    """

    training: Training
    stage: Stage
    batch: FaceBatch
    signals: tuple[bool, ...]
    weights: Mapping[str, float]
    found: Mapping[str, Tensor] | Exception | None = None

    @property
    def context(self) -> StepContext:
        """What its losses see, before `prepare`."""
        wanted = frozenset(name for name, value in self.weights.items() if value > 0)
        return StepContext(batch=self.batch, progress=self.training.progress, wanted=wanted)

    def rounds(self) -> Iterator[tuple[int, tuple[Turn, ...]]]:
        """The turns that are due, with their repeat: of one round all go backward, then move."""
        wanted = self.context.wanted
        for group in self.stage.groups():
            due = [turn for turn in group if self.training.progress.step % turn.every == 0]
            due = [turn for turn in due if wanted.intersection(turn.terms)]
            for repeat in range(max((turn.repeats for turn in due), default=0)):
                yield repeat, tuple(turn for turn in due if repeat < turn.repeats)


class NonFiniteTermError(FloatingPointError):
    """A term was not finite; no optimiser has moved in that turn."""

    @classmethod
    def of(
        cls, training: Training, stage: Stage, turn: Turn, terms: Sequence[str]
    ) -> NonFiniteTermError:
        """Says where the training stood and which terms they were."""
        return cls(
            f"stage {stage.name}, turn of {turn.player}, after {training.progress.images} images: "
            f"not finite: {', '.join(terms)}"
        )

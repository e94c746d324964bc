"""The contract of a system: a paper describes players, turns and stages; one loop does the rest.

Nothing here knows of Ray, DeepSpeed or MLflow. Shapes: B samples, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from data_service.planning.needs import DataNeeds
from data_service.schema import DatasetInfo, FaceBatch, Prediction
from trainer.noise import keyed_noise
from trainer.schedules import Schedule, value_at

if TYPE_CHECKING:
    from trainer.config import RunConfig

__all__ = [
    "CAPABILITIES",
    "DataNeeds",
    "DatasetInfo",
    "FaceBatch",
    "Mean",
    "OptimizerConfig",
    "Player",
    "Prediction",
    "Progress",
    "Stage",
    "StepContext",
    "Sums",
    "System",
    "SystemSpec",
    "Turn",
]

CAPABILITIES = ("recognise", "synthesise", "intensity", "transfer", "attributes", "identify")

Sums = Mapping[str, Tensor]
"""Named sums over samples, in float64; the loop adds them up over steps and over ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """How one player's parameters move.

    `learning_rate` may be a ramp over each stage; over the first `warmup` of the stage (a fraction)
    it also rises from 0. `lr_scale` maps a parameter-name pattern
    (fnmatch) to a factor; the first match counts. `clip_norm` 0 means no clipping.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Schedule = 2e-4
    warmup: float = 0.0
    betas: tuple[float, float] = (0.5, 0.999)
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    lr_scale: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        finite = {
            "learning_rate": [value_at(self.learning_rate, end) for end in (0.0, 1.0)],
            "weight_decay": [self.weight_decay],
            "clip_norm": [self.clip_norm],
            "lr_scale": self.lr_scale.values(),
        }
        for name, values in finite.items():
            if not all(0 <= value < float("inf") for value in values):
                told = getattr(self, name)
                raise ValueError(f"{name} is {told}; valid: zero or above, and finite")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is {self.warmup}; valid: 0 to 1")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; valid: from 0, and below 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; valid: from 0, and below 1")

    def rate(self, fraction: float) -> float:
        """The learning rate at `fraction` of a stage, in [0, 1]."""
        risen = min(fraction / self.warmup, 1.0) if self.warmup else 1.0
        return value_at(self.learning_rate, fraction) * risen


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mean:
    """A mean over samples that count, as sum and count; the loop divides by all ranks' count."""

    sum: Tensor
    count: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is, in images; in its stage `stage_images` of `stage_total` are done."""

    step: int = 0
    images: int = 0
    stage: int = 0
    stage_images: int = 0
    stage_total: int = 1

    @property
    def fraction(self) -> float:
        """The part of the stage that is done, in [0, 1]."""
        return min(self.stage_images / self.stage_total, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepContext:
    """All that a loss may see.

    `shared` is what the stage's `prepare` returned in this step; `wanted` are the terms whose
    weight is above zero now; no other term is computed. Of `progress` a loss may use the step
    alone, to know which turns are due: in one pass it is that of the first lane.
    """

    batch: FaceBatch
    progress: Progress
    wanted: frozenset[str]
    shared: Any = None
    turn: str = ""
    repeat: int = 0

    def noise(self, name: str, shape: tuple[int, ...], *, uniform: bool = False) -> Tensor:
        """Noise of `shape` (B first), standard normal or uniform in [-1, 1).

        It is a pure function of the sample's slot in the plan, of the turn, its repeat and `name`:
        the same on one worker and on many, and after a resume.
        """
        label = f"{self.turn}/{self.repeat}/{name}"
        return keyed_noise(self.batch.key_B, label, shape, uniform=uniform)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Player:
    """All networks that one optimiser moves. A parameter belongs to exactly one player."""

    name: str
    module: nn.Module
    optimizer: OptimizerConfig
    ema_halflife_images: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Turn:
    """Who moves, on which terms, how often.

    `loss` returns the raw terms by name; the loop weighs and adds them. A turn is due in every
    `every`-th step and is then taken `repeats` times.
    """

    player: str
    terms: tuple[str, ...]
    loss: Callable[[StepContext], Mapping[str, Tensor | Mean]]
    every: int = 1
    repeats: int = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stage:
    """A part of training: ExprGAN has three, most systems one.

    `turns`: an inner tuple means all backwards first, then all steps (simultaneous play).
    `prepare` runs once a step without gradients, all players frozen. With `prepares_for` it runs on
    the turn of that player instead, gradients and all: what the others see of it, detached, need
    not be made again for the player's own turn, of which there must be one in every step. `observe`
    returns sums that are added up over the stage and handed to `on_exit`. `on_enter` runs on rank 0
    before the stage's optimisers exist and is broadcast; it may change values, never structure.
    `trains` maps a player to the name pattern (fnmatch) of the parameters that the stage trains; a
    player that is not named trains wholly, if it has a turn. `weights` and `data` are where the
    stage departs from the system.
    """

    name: str
    images: int
    turns: tuple[Turn | tuple[Turn, ...], ...]
    prepare: Callable[[StepContext], Any] | None = None
    prepares_for: str | None = None
    observe: Callable[[StepContext], Sums] | None = None
    on_enter: Callable[[], None] | None = None
    on_exit: Callable[[Sums], None] | None = None
    trains: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Schedule] = field(default_factory=dict)
    data: DataNeeds | None = None

    def groups(self) -> tuple[tuple[Turn, ...], ...]:
        """The turns in order, each as a group; a lone turn is a group of one."""
        return tuple(turn if isinstance(turn, tuple) else (turn,) for turn in self.turns)

    def moves(self, player: str) -> bool:
        """Whether the player has a turn in this stage."""
        return any(turn.player == player for group in self.groups() for turn in group)


class System(ABC):
    """The networks of a paper and what is to be done with them."""

    @abstractmethod
    def players(self) -> tuple[Player, ...]:
        """Everything that is trained; may be empty for closed forms."""

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """What is done, in order."""

    @abstractmethod
    def predict(self, batch: FaceBatch) -> Prediction:
        """What the system says of a batch, in eval mode, without gradients."""

    def frozen(self) -> Mapping[str, nn.Module]:
        """Networks that are used and never trained: teachers, identity networks."""
        return {}

    def gates(self) -> Mapping[str, Tensor]:
        """The mean opening of every gate in the last training forward, detached; logged.

        Kept in buffers, so that in one pass (`tuning.fused`) every lane has its own.
        """
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What must survive and is not a parameter or a buffer of a player."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but got {sorted(state)}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SystemSpec:
    """The one constant, `SPEC`, that the folder of a system exports.

    `config` is the frozen dataclass of the system's settings; it has a field `weights` (a frozen
    dataclass of `trainer.config.weight` fields, one per term). `recipes` has at least `paper`,
    `small` and `tiny`. `lacks` says which capabilities a variant is without; `not_in_one_pass` why
    several trainings of the system cannot be lanes of one pass (`tuning.fused`), if they cannot.
    """

    name: str
    title: str
    config: type
    build: Callable[[Any, DatasetInfo], System]
    recipes: Mapping[str, Callable[[], RunConfig]]
    data: Callable[[Any], DataNeeds]
    capabilities: frozenset[str]
    lacks: Callable[[Any], frozenset[str]] = lambda config: frozenset()
    not_in_one_pass: str = ""

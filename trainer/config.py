"""The settings of a run: frozen dataclasses, addressed by dotted paths, stored as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from data_service.schema import Expression
from data_service.transforms import AugmentConfig
from trainer.schedules import Schedule, ever_positive, value_at

FORMAT_VERSION = 1
MOST_SYNTHETIC = 0.9
"""No more of what is shown may be synthetic."""
NAMES_RUN = "names_run"
"""Marks, in a field's metadata, a setting that names a run."""
_COPIED = "copied"
SEARCH, COMPLEMENT = "search", "complement"
"""Mark a setting of the ready search space, and the weight that is 1 minus another one."""
WEIGHS, PER_LANE = "weighs", "per_lane"
"""Mark the weight of a term, and a setting that enters the networks as a number in a tensor."""


def knob(
    default: Any,
    *,
    bounds: tuple[float, float] | None = None,
    paper: str | None = None,
    doc: str = "",
    log: bool = False,
    per_lane: bool = False,
    weighs: bool = False,
    search: bool | tuple[float, float] = False,
    complement: str = "",
) -> Any:
    """A setting that can be searched: its bounds, its symbol in the paper, what it does.

    Trainings that differ in what is `per_lane`, or in what `weighs` a term, may go together; see
    `trainer.kin`. A search that names no setting takes this one too where `search` says so: from
    one value to another, or with True a list's parts. For `complement` see `weight`.
    """
    marks = {PER_LANE: per_lane, WEIGHS: weighs, SEARCH: search, COMPLEMENT: complement}
    metadata = {"bounds": bounds, "paper": paper, "doc": doc, "log": log, **marks}
    if isinstance(default, (list, dict, set)):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def names_run(*, copied: bool = False) -> Any:
    """A setting that names a run, or a file of weights, that the system uses; empty by default.

    With `copied` its weights become a player's own: once trained, the system needs it no more.
    """
    return field(default="", metadata={NAMES_RUN: True, _COPIED: copied})


def without_copied(system: Any) -> Any:
    """The settings of a system, naming no run whose weights it keeps itself."""
    items = dataclasses.fields(system)
    return dataclasses.replace(
        system, **{item.name: "" for item in items if item.metadata.get(_COPIED)}
    )


def weight(
    default: Schedule,
    *,
    paper: str | None = None,
    bounds: tuple[float, float] = (0.0, 10.0),
    doc: str = "",
    search: tuple[float, float] | None = None,
    complement: str = "",
) -> Any:
    """The weight of the loss term of the same name; its paper symbol serves as an alias.

    `complement` names the weight that is 1 minus this one; a search moves both along that line.
    """
    marks = {"weighs": True, "search": search or False, "complement": complement}
    return knob(default, bounds=bounds, paper=paper, doc=doc, **marks)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What is streamed: `image_size` is the side of the crop that the networks see.

    `classes` empty means every class of the lake. With `labels` votes a face's class is drawn anew
    from the votes on it each time that it is shown (FER+); validation and test keep the given one.
    `synthetic_share` of what every stage shows comes from the sealed pool that the run was given.
    With `window_mib` a lake of more pixels than that is shuffled within a window of that size, but
    for stages that balance their classes; 0 shuffles every lake as a whole.
    `stream` ray runs one Ray Data execution per worker, local a thread; auto takes ray for several
    workers.
    """

    image_size: int = knob(48, bounds=(1, 4096), doc="side of the crop, in pixels")
    global_batch_images: int = knob(32, bounds=(1, 65536), doc="images of a step, over all workers")
    classes: tuple[Expression, ...] = ()
    labels: Literal["given", "votes"] = "given"
    grey: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    stream: Literal["auto", "ray", "local"] = "auto"
    prefetch_batches: int = knob(8, bounds=(1, 1024), doc="batches that are read ahead, at most")
    window_mib: int = knob(0, bounds=(0, 1e6), doc="shuffles a larger lake; 0: as a whole")
    synthetic_share: float = knob(
        0.0, bounds=(0.0, MOST_SYNTHETIC), doc="share of faces from the pool of --synthetic"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Where and how the networks move. `zero` None picks plain torch on one worker, else ZeRO 1.

    With `least_workers` a run begins and goes on with as many workers, up to `workers`, as the
    cluster has room for, while hosts join and leave.
    """

    workers: int = 1
    least_workers: int | None = None
    zero: Literal[0, 1, 2] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = knob(None, bounds=(1, 1024), doc="torch's, in each worker")
    channels_last: bool = False

    @property
    def least(self) -> int:
        """The fewest workers that the run may have."""
        return self.workers if self.least_workers is None else self.least_workers


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When a checkpoint is due: after `every_seconds`, or instead at multiples of `every_steps`.

    By the clock it comes later where checkpoints would take more than 3 % of the time. The newest
    `keep` stay; those older than `keep_hours` go too. The last one that is whole is never deleted.
    With `copy_to`, an address that pyarrow knows (`s3://bucket/folder`), each is copied there too,
    and the run goes on from there by `--resume ADDRESS/RUN` where this home is lost.
    """

    every_seconds: float = knob(20.0, bounds=(0.0, 1e9), doc="seconds from one to the next")
    every_steps: int | None = knob(None, bounds=(1, 1e9), doc="steps; none: by the clock")
    keep: int = knob(2, bounds=(1, 1e6), doc="so many of the newest stay")
    keep_hours: float | None = knob(None, bounds=(0.0, 1e6), doc="older ones go; none: no limit")
    copy_to: str | None = knob(None, doc="address that each is copied to; none: nowhere")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """When validation runs and what chooses the weights that are tested once, at the end.

    `select` last takes the final weights; a metric's name takes the best on validation. `peeking`
    also looks at the test subjects each time, and keeps what a rule that peeks would report; it
    chooses nothing by them. After `patience` images without a better `select` the training ends; 0
    never ends it. `identity` has a judge of its own say how alike edits and sources are.
    """

    every_images: int = knob(0, bounds=(0, 1e9), doc="images between validations; 0: none")
    select: Literal["last", "macro_recall", "accuracy"] = "last"
    patience: int = knob(0, bounds=(0, 1e9), doc="images without a better validation; 0: no end")
    flip: bool = True
    peeking: bool = False
    identity: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingConfig:
    """How often terms are read from the device and pictures are drawn, in images."""

    every_images: int = knob(2048, bounds=(0, 1e9), doc="images between figures; 0: none")
    samples_every_images: int = knob(16384, bounds=(0, 1e9), doc="between pictures; 0: none")


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig:
    """What a pool of synthetic faces is to hold.

    `until` equal fills every class to the largest one. A face is admitted when a recogniser that
    never saw its source subject gives the target at least `gate` confidence; `identity_gate` is the
    least cosine similarity of the identity network, `copy_gate` the least pixel distance (mean
    absolute, of [0, 1]) to every other admitted face.
    """

    until: Literal["equal"] | int = "equal"
    gate: float = knob(0.7, bounds=(0.0, 1.0), doc="least confidence in the target expression")
    identity_gate: float = knob(0.3, bounds=(-1.0, 1.0), doc="least identity similarity")
    copy_gate: float = knob(0.01, bounds=(0.0, 1.0), doc="least distance to other admitted faces")


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthesisConfig(PoolConfig):
    """FES-DA inside one run: before the stage `stage`, fill the classes with admitted faces."""

    stage: str
    share: float = knob(0.3, bounds=(0.0, 1.0), doc="share of synthetic faces in a batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """All that determines a run, besides the lake and the fold."""

    system_name: str
    recipe: str
    system: Any
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    synthesis: SynthesisConfig | None = None
    seed: int = knob(0, bounds=(0, 2**32 - 1), doc="names the random numbers")

    def __post_init__(self) -> None:
        self._check_workers()
        if not 0 <= self.data.synthetic_share <= MOST_SYNTHETIC:
            raise ValueError(
                f"data.synthetic_share is {self.data.synthetic_share}; valid: 0 to {MOST_SYNTHETIC}"
            )
        self._check_evaluation()
        for name, schedule in weights_of(self).items():
            if value_at(schedule, 0.0) < 0 or value_at(schedule, 1.0) < 0:
                raise ValueError(f"system.weights.{name} is {schedule}; a weight is zero or above")

    def _check_evaluation(self) -> None:
        config = self.evaluation
        if config.patience and config.select == "last":
            raise ValueError(
                "evaluation.patience needs evaluation.select, by which it tells what is better; "
                "valid: macro_recall, accuracy"
            )

    def _check_workers(self) -> None:
        batch, workers, least = (
            self.data.global_batch_images,
            self.engine.workers,
            self.engine.least,
        )
        if workers < 1:
            raise ValueError(f"engine.workers is {workers}; at least 1 is needed")
        if not 1 <= least <= workers:
            raise ValueError(f"engine.least_workers is {least}; valid: 1 to {workers}, or none")
        for count in (workers, least):
            if batch % count:
                fits = [n for n in range(1, min(batch, 4 * workers) + 1) if batch % n == 0]
                raise ValueError(
                    f"data.global_batch_images is {batch}, which {count} workers cannot share "
                    f"equally; worker counts that can: {', '.join(map(str, fits))}"
                )


def weights_of(run: RunConfig) -> dict[str, Schedule]:
    """The system's loss weights by term name."""
    weights = run.system.weights
    return {item.name: getattr(weights, item.name) for item in dataclasses.fields(weights)}


def wanted(weights: Mapping[str, Schedule]) -> frozenset[str]:
    """The terms whose weight is ever above zero."""
    return frozenset(name for name, schedule in weights.items() if ever_positive(schedule))


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The settings as plain JSON values, with the format's version."""
    return {"format_version": FORMAT_VERSION, **plain(run)}


def plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Expression):
        return str(value)
    return value


def fingerprint(run: RunConfig) -> str:
    """Twelve hex digits that name these settings; equal settings, equal name."""
    text = json.dumps(to_dict(run), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

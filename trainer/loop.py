"""The only training loop: it walks the stages and turns that a system describes, step by step.

A step: `prepare` once; then for each due turn make only its player trainable, compute the wanted
terms, weigh and add them, check on all ranks that they are finite before any optimiser moves, go
backward once and step. `fit` is an iterator of steps, so that whoever drives it decides what
happens between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trainer.averages import Averages
from trainer.config import RunConfig, weights_of
from trainer.engines import DeepSpeedEngine, PlayerEngine, TorchEngine
from trainer.ledger import entry
from trainer.nets.norm import BatchNorm, batch_norms, set_statistics_updates
from trainer.schedules import value_at
from trainer.system import FaceBatch, Mean, Player, Progress, Stage, StepContext, System, Turn
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


class NonFiniteTermError(FloatingPointError):
    """A term was not finite; no optimiser has moved in that turn."""


def begin(run: RunConfig, system: System, world: World) -> Training:
    """A training of the system from its first step: networks in place, frozen ones frozen."""
    for network in system.frozen().values():
        network.eval().requires_grad_(False)
    players = {player.name: player for player in system.players()}
    for network in (*(player.module for player in players.values()), *system.frozen().values()):
        network.to(world.device)
        if run.engine.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stages = system.stages()
    _check_terms(run, stages)
    return Training(
        run=run,
        system=system,
        world=world,
        stages=stages,
        players=players,
        averages=Averages(tuple(players.values())),
        progress=Progress(stage_total=max(stages[0].images, 1)),
        ledger=torch.zeros((), dtype=torch.int64, device=world.device),
    )


def _check_terms(run: RunConfig, stages: tuple[Stage, ...]) -> None:
    """Terms and weights carry the same names, both ways, and a term belongs to one turn a stage."""
    declared: set[str] = set()
    for stage in stages:
        terms = [term for group in stage.groups() for turn in group for term in turn.terms]
        assert len(terms) == len(set(terms)), f"stage {stage.name}: a term has two turns: {terms}"
        declared.update(terms)
        _check_prepared(stage)
        unknown = set(stage.weights) - set(weights_of(run))
        assert not unknown, f"stage {stage.name} weighs unknown terms {sorted(unknown)}"
    missing = declared ^ set(weights_of(run))
    assert not missing, (
        f"{run.system_name}: terms without a weight or weights without a term: {missing}"
    )


def _check_prepared(stage: Stage) -> None:
    """What `prepare` makes on a player's turn is used by one backward, in every step."""
    if stage.prepares_for is None:
        return
    own = [turn for group in stage.groups() for turn in group if turn.player == stage.prepares_for]
    assert [(turn.every, turn.repeats) for turn in own] == [(1, 1)], (
        f"stage {stage.name} prepares for {stage.prepares_for}, which must have one turn in every "
        f"step and has {len(own)}: every {[turn.every for turn in own]} steps, "
        f"{[turn.repeats for turn in own]} times"
    )


def fit(
    training: Training,
    batches: Iterator[FaceBatch],
    *,
    signals: Callable[[], tuple[bool, ...]] = tuple,
    before_stage: int | None = None,
) -> Iterator[StepResult]:
    """Train from where `training` stands, one step per item, up to the stage `before_stage`.

    `signals` are this rank's wishes (stop, save); every rank sees those of all ranks in the same
    step. Raises NonFiniteTermError, which names stage, turn, term and image count.
    """
    last = len(training.stages) if before_stage is None else before_stage
    while training.progress.stage < last:
        _enter(training)
        stage = training.stage
        while training.progress.stage_images < stage.images:
            batch = next(batches)
            terms, weights, told = _step(training, stage, batch, signals())
            training.ledger += entry(training.progress.step, batch.key_B, batch.row_B)
            result = _advance(training, stage, terms, weights, told)
            if training.progress.stage_images >= stage.images:
                _leave(training, stage)
            yield result
        _next_stage(training)


def _next_stage(training: Training) -> None:
    index = training.progress.stage + 1
    total = training.stages[index].images if index < len(training.stages) else 1
    training.progress = replace(
        training.progress, stage=index, stage_images=0, stage_total=max(total, 1)
    )


def _enter(training: Training) -> None:
    """Build the stage's engines; run `on_enter` when the stage is new."""
    stage = training.stage
    moments, training.pending_moments = training.pending_moments, {}
    if training.progress.stage_images >= stage.images:
        return
    if training.progress.stage_images == 0:
        training.sums = {}
        _on_rank_0(training, stage.on_enter)
    for engine in training.engines.values():
        engine.close()
    training.engines = {
        player.name: _engine(training, player, stage)
        for player in training.players.values()
        if stage.moves(player.name)
    }
    for name, engine in training.engines.items():
        prefix = f"{name}/"
        engine.load_moments(
            {
                key.removeprefix(prefix): value
                for key, value in moments.items()
                if key.startswith(prefix)
            }
        )
    for player in training.players.values():
        player.module.train(stage.moves(player.name)).requires_grad_(False)
        set_statistics_updates(training.norms[player.name], False)
    training.moving = None


def _engine(training: Training, player: Player, stage: Stage) -> PlayerEngine:
    pattern = stage.trains.get(player.name, "*")
    zero = training.run.engine.zero
    if training.world.size == 1 and zero is None:
        return TorchEngine(player, pattern)
    batch = training.batch_images(stage)
    return DeepSpeedEngine(player, pattern, training.world, 1 if zero is None else zero, batch)


def _on_rank_0(training: Training, change: Callable[[], None] | None) -> None:
    """Let rank 0 change values, and give them to all."""
    if change is None:
        return
    with torch.no_grad():
        if training.world.leads:
            change()
        for player in training.players.values():
            training.world.broadcast(player.module.state_dict().values())
        device = training.world.device
        own = {name: value.to(device) for name, value in training.system.state_dict().items()}
        training.world.broadcast(own.values())
        if own and not training.world.leads:
            training.system.load_state_dict(own)


def _leave(training: Training, stage: Stage) -> None:
    if stage.on_exit is None:
        return
    sums = {name: training.world.all_reduce_sum(value) for name, value in training.sums.items()}
    _on_rank_0(training, lambda: stage.on_exit(sums))  # type: ignore[misc]


def _step(
    training: Training, stage: Stage, batch: FaceBatch, signals: tuple[bool, ...]
) -> tuple[dict[str, Tensor], dict[str, float], tuple[bool, ...]]:
    schedules = {**weights_of(training.run), **stage.weights}
    fraction = training.progress.fraction
    weights = {name: value_at(schedule, fraction) for name, schedule in schedules.items()}
    wanted = frozenset(name for name, value in weights.items() if value > 0)
    context = StepContext(batch=batch, progress=training.progress, wanted=wanted)
    context = replace(context, shared=_prepare(training, stage, context))
    _observe(training, stage, context)
    terms: dict[str, Tensor] = {}
    told: tuple[bool, ...] | None = None
    for group in stage.groups():
        due = [turn for turn in group if training.progress.step % turn.every == 0]
        due = [turn for turn in due if wanted.intersection(turn.terms)]
        for repeat in range(max((turn.repeats for turn in due), default=0)):
            playing = [turn for turn in due if repeat < turn.repeats]
            for turn in playing:
                flags = signals if told is None else ()
                found, heard = _backward(training, stage, turn, repeat, context, weights, flags)
                terms.update(found)
                told = heard if told is None else told
            for turn in playing:
                training.engines[turn.player].step(fraction)
    if told is None:
        told = _hear(training.world, signals)
    return terms, weights, told


def _prepare(training: Training, stage: Stage, context: StepContext) -> Any:
    if stage.prepare is None:
        return None
    _put_on_turn(training, stage.prepares_for)
    with torch.set_grad_enabled(stage.prepares_for is not None), _autocast(training):
        return stage.prepare(replace(context, turn="prepare"))


def _observe(training: Training, stage: Stage, context: StepContext) -> None:
    if stage.observe is None:
        return
    _put_on_turn(training, None)
    with torch.no_grad():
        for name, value in stage.observe(replace(context, turn="observe")).items():
            value = value.double()
            training.sums[name] = training.sums[name] + value if name in training.sums else value


def _backward(
    training: Training,
    stage: Stage,
    turn: Turn,
    repeat: int,
    context: StepContext,
    weights: Mapping[str, float],
    signals: tuple[bool, ...],
) -> tuple[dict[str, Tensor], tuple[bool, ...]]:
    """One turn up to its gradients: its raw terms (detached), and the signals of all ranks."""
    _put_on_turn(training, turn.player)
    due = context.wanted.intersection(turn.terms)
    own = replace(context, wanted=due, turn=f"{stage.name}/{turn.player}", repeat=repeat)
    with _autocast(training):
        found = turn.loss(own)
    assert set(found) == due, f"turn of {turn.player} gave {sorted(found)}, wanted {sorted(due)}"
    terms = _means(training.world, found)
    bad = torch.stack([~torch.isfinite(value.detach()) for value in terms.values()]).float()
    heard = _hear(training.world, signals, bad.to("cpu") if training.world.size == 1 else bad)
    spoilt = [name for name, flag in zip(terms, heard[len(signals) :], strict=True) if flag]
    if spoilt:
        raise NonFiniteTermError(
            f"stage {stage.name}, turn of {turn.player}, after {training.progress.images} images: "
            f"not finite: {', '.join(spoilt)}"
        )
    training.engines[turn.player].backward(
        torch.stack([weights[name] * value for name, value in terms.items()]).sum()
    )
    return {name: value.detach() for name, value in terms.items()}, heard[: len(signals)]


def _hear(world: World, signals: tuple[bool, ...], bad: Tensor | None = None) -> tuple[bool, ...]:
    """Every rank's signals and flags, each set where any rank set it; the step's host sync."""
    flags = torch.tensor(
        signals, dtype=torch.float32, device=bad.device if bad is not None else None
    )
    flags = flags if bad is None else torch.cat([flags, bad])
    if not flags.numel():
        return ()
    return tuple(flag > 0 for flag in world.all_reduce_max(flags.to(world.device)).tolist())


def _means(world: World, found: Mapping[str, Tensor | Mean]) -> dict[str, Tensor]:
    """Terms as scalars whose average over the ranks is the mean over all samples that count."""
    masked = {name: term for name, term in found.items() if isinstance(term, Mean)}
    counts: dict[str, Tensor] = {}
    if masked:
        total = torch.stack([term.count.detach().float() for term in masked.values()])
        counts = dict(zip(masked, world.all_reduce_sum(total.clone()).clamp(min=1), strict=True))
    return {
        name: term.sum.float() * (world.size / counts[name])
        if isinstance(term, Mean)
        else term.float()
        for name, term in found.items()
    }


def _put_on_turn(training: Training, moving: str | None) -> None:
    """Only the moving player's trained parameters want gradients; only its statistics follow."""
    if moving == training.moving:
        return
    for name in filter(None, (training.moving, moving)):
        on_turn = name == moving
        for parameter in training.engines[name].parameters.values():
            parameter.requires_grad_(on_turn)
        set_statistics_updates(training.norms[name], on_turn)
    training.moving = moving


def _autocast(training: Training) -> torch.autocast:
    on = training.run.engine.precision == "bf16"
    return torch.autocast(training.world.device.type, dtype=torch.bfloat16, enabled=on)


def _advance(
    training: Training,
    stage: Stage,
    terms: dict[str, Tensor],
    weights: dict[str, float],
    signals: tuple[bool, ...],
) -> StepResult:
    images = training.batch_images(stage)
    before = training.progress
    training.progress = replace(
        before,
        step=before.step + 1,
        images=before.images + images,
        stage_images=before.stage_images + images,
    )
    training.averages.update(images, training.progress.images)
    return StepResult(
        progress=training.progress,
        stage=stage.name,
        step_images=images,
        terms=terms,
        weights=weights,
        signals=signals,
    )

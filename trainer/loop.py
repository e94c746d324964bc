"""The only training loop: it walks the stages and turns that a system describes, step by step.

A step: `prepare` once; then for each due turn make only its player trainable, compute the wanted
terms, weigh and add them, check on all ranks that they are finite, go backward once and step. What
is not finite ends the run before the optimisers of its own turn move; those of turns before it in
the step have moved. `fit` is an iterator of steps, so that whoever drives it decides what happens
between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainer.averages import Averages
from trainer.config import RunConfig, weights_of
from trainer.engines import DeepSpeedEngine, PlayerEngine, TorchEngine
from trainer.layout import lay_channels_last
from trainer.ledger import entry
from trainer.nets.norm import set_statistics_updates
from trainer.schedules import value_at
from trainer.system import FaceBatch, Mean, Player, Progress, Stage, StepContext, System, Turn
from trainer.training import DueStep, NonFiniteTermError, StepResult, Training
from trainer.world import World


def begin(run: RunConfig, system: System, world: World) -> Training:
    """A training of the system from its first step: networks in place, frozen ones frozen."""
    for network in system.frozen().values():
        network.eval().requires_grad_(False)
    players = {player.name: player for player in system.players()}
    for network in (*(player.module for player in players.values()), *system.frozen().values()):
        network.to(world.device)
        if run.engine.channels_last:
            lay_channels_last(network)
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
    for item in due_steps(training, batches, signals=signals, before_stage=before_stage):
        if isinstance(item, StepResult):
            yield item


def due_steps(
    training: Training,
    batches: Iterator[FaceBatch],
    *,
    signals: Callable[[], tuple[bool, ...]] = tuple,
    before_stage: int | None = None,
) -> Iterator[DueStep | StepResult]:
    """As `fit`, but gives every step also before it is taken; if nobody takes it, it is here."""
    last = len(training.stages) if before_stage is None else before_stage
    while training.progress.stage < last:
        _enter(training)
        stage = training.stage
        while training.progress.stage_images < stage.images:
            step = _due(training, stage, next(batches), signals())
            yield step
            if isinstance(step.found, Exception):
                error, step.found = step.found, None
                try:
                    raise error
                finally:
                    del error  # whose frames hold the training
            terms, told = _step(step) if step.found is None else (step.found, step.signals)
            training.ledger += entry(training.progress.step, step.batch.key_B, step.batch.row_B)
            result = _advance(step, terms, told)
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
    training.engines = {}  # before new ones take their memory
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


def _due(training: Training, stage: Stage, batch: FaceBatch, signals: tuple[bool, ...]) -> DueStep:
    schedules = {**weights_of(training.run), **stage.weights}
    fraction = training.progress.fraction
    weights = {name: value_at(schedule, fraction) for name, schedule in schedules.items()}
    return DueStep(training=training, stage=stage, batch=batch, signals=signals, weights=weights)


def _step(step: DueStep) -> tuple[Mapping[str, Tensor], tuple[bool, ...]]:
    """The raw terms of all turns, and the signals of all ranks."""
    training, stage, context = step.training, step.stage, step.context
    context = replace(context, shared=_prepare(training, stage, context))
    _observe(training, stage, context)
    terms: dict[str, Tensor] = {}
    told: tuple[bool, ...] | None = None
    for repeat, playing in step.rounds():
        for turn in playing:
            flags = step.signals if told is None else ()
            found, heard = _backward(training, stage, turn, repeat, context, step.weights, flags)
            terms.update(found)
            told = heard if told is None else told
        for turn in playing:
            training.engines[turn.player].step(training.progress.fraction)
    if told is None:
        told = _hear(training.world, step.signals)
    return terms, told


def _prepare(training: Training, stage: Stage, context: StepContext) -> Any:
    if stage.prepare is None:
        return None
    put_on_turn(training, stage.prepares_for)
    with torch.set_grad_enabled(stage.prepares_for is not None), autocast(training):
        return stage.prepare(replace(context, turn="prepare"))


def _observe(training: Training, stage: Stage, context: StepContext) -> None:
    if stage.observe is None:
        return
    put_on_turn(training, None)
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
    put_on_turn(training, turn.player)
    due = context.wanted.intersection(turn.terms)
    own = replace(context, wanted=due, turn=f"{stage.name}/{turn.player}", repeat=repeat)
    with autocast(training):
        found = turn.loss(own)
    assert set(found) == due, f"turn of {turn.player} gave {sorted(found)}, wanted {sorted(due)}"
    terms = means(training.world, found)
    bad = torch.stack([~torch.isfinite(value.detach()) for value in terms.values()]).float()
    heard = _hear(training.world, signals, bad)
    spoilt = [name for name, flag in zip(terms, heard[len(signals) :], strict=True) if flag]
    if spoilt:
        raise NonFiniteTermError.of(training, stage, turn, spoilt)
    training.engines[turn.player].backward(
        torch.stack([weights[name] * value for name, value in terms.items()]).sum()
    )
    return {name: value.detach() for name, value in terms.items()}, heard[: len(signals)]


def _hear(world: World, signals: tuple[bool, ...], bad: Tensor | None = None) -> tuple[bool, ...]:
    """Every rank's signals and flags, each set where any rank set it; the step's host sync."""
    if world.size == 1:
        return (*signals, *(flag > 0 for flag in (bad.tolist() if bad is not None else ())))
    flags = torch.tensor(signals, dtype=torch.float32, device=world.device)
    flags = flags if bad is None else torch.cat([flags, bad])
    if not flags.numel():
        return ()
    return tuple(flag > 0 for flag in world.all_reduce_max(flags).tolist())


def means(world: World, found: Mapping[str, Tensor | Mean]) -> dict[str, Tensor]:
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


def put_on_turn(training: Training, moving: str | None) -> None:
    """Only the moving player's trained parameters want gradients; only its statistics follow."""
    if moving == training.moving:
        return
    for name in filter(None, (training.moving, moving)):
        on_turn = name == moving
        for parameter in training.engines[name].parameters.values():
            parameter.requires_grad_(on_turn)
        set_statistics_updates(training.norms[name], on_turn)
    training.moving = moving


def autocast(training: Training) -> torch.autocast:
    on = training.run.engine.precision == "bf16"
    return torch.autocast(training.world.device.type, dtype=torch.bfloat16, enabled=on)


def _advance(step: DueStep, terms: Mapping[str, Tensor], signals: tuple[bool, ...]) -> StepResult:
    training = step.training
    images = training.batch_images(step.stage)
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
        stage=step.stage.name,
        step_images=images,
        terms=terms,
        weights=step.weights,
        signals=signals,
    )

"""Lanes in one pass: the steps of several trainings as one forward and one backward.

The numbers of their networks lie stacked, and each training's own tensors are views of its lane of
the stack. `torch.func.vmap` runs the turns of the first training's system over all lanes; each lane
weighs its own terms, and its own optimiser moves it. So all that is not forward or backward stays
as it is for a training alone: schedules, rates, averages, checkpoints, evaluation.

What is computed is the same, but sums are taken in another order: lanes end within the noise of
rounding of what they would have been alone, not bit for bit. Shapes: L lanes, T terms; what has a
leading L has it in front of the shape that a training alone has.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trainer.loop import autocast, means, put_on_turn
from trainer.system import StepContext, Turn
from trainer.training import DueStep, NonFiniteTermError, Taken, Training

LOG = logging.getLogger(__name__)


class LostStepError(RuntimeError):
    """A step was not taken since a lane beside it ran out of memory; the training goes on anew."""


class Fused:
    """Takes steps together where the trainings are of one kin and stand at the same turns."""

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], Stack] = {}
        self._able: dict[str, bool] = {}
        """By kin: whether one pass takes its steps, once it was tried."""

    def __call__(self, steps: Sequence[DueStep]) -> None:
        """Take all that have another to go with; the others are left as they are."""
        groups: dict[Any, list[DueStep]] = {}
        for step in steps:
            if self._able.get(step.training.kin, bool(step.training.kin)):
                groups.setdefault(_point(step), []).append(step)
        before, self._stacks = self._stacks, {}
        for group in groups.values():
            if len(group) > 1:
                key = tuple(id(step.training) for step in group)
                stack = before.get(key) or Stack([step.training for step in group])
                self._stacks[key] = stack
                self._take(stack, group)

    def _take(self, stack: Stack, steps: Sequence[DueStep]) -> None:
        kin = steps[0].training.kin
        is_new = kin not in self._able
        before = {name: value.clone() for name, value in stack.buffers()} if is_new else {}
        whole = _Pass(stack, steps)
        try:
            whole.take()
            self._able[kin] = True
        except torch.OutOfMemoryError as error:
            for step in steps:
                step.found = LostStepError("a lane beside it ran out of memory")
            steps[-1].found = error
        except RuntimeError as error:
            if not is_new or whole.has_moved:
                raise
            LOG.warning("%s is trained in turns: %s", steps[0].training.run.system_name, error)
            self._able[kin] = False
            for name, value in stack.buffers():
                value.copy_(before[name])


def _point(step: DueStep) -> tuple[Any, ...]:
    """Steps with the same run the same code on tensors of the same shapes."""
    context = step.context
    turns = [
        (turn.player, repeat) for repeat, playing in step.rounds(context.wanted) for turn in playing
    ]
    shapes = [(tensor.shape, tensor.dtype) for tensor in tensors_of(step.batch)]
    return (step.training.kin, step.stage.name, context.wanted, tuple(turns), tuple(shapes))


class Stack:
    """Parameters and buffers of all players of several trainings, by name, [L, ...] each."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = tuple(trainings)
        self.system = trainings[0].system
        self.whole = _Whole(trainings[0])
        owned = [dict(_Whole(training).named()) for training in trainings]
        self.tensors = {name: _stacked([own[name] for own in owned]) for name in owned[0]}

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """What a forward may change."""
        for name, _ in self.whole.named_buffers():
            yield name, self.tensors[name]


class _Whole(nn.Module):
    """All players of a training as one module, within which any function can be called."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.players = nn.ModuleDict(
            {name: player.module for name, player in training.players.items()}
        )

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor by name."""
        yield from self.named_parameters()
        yield from self.named_buffers()


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """All in one, each laid out as before, and from now on a view of it."""
    first = tensors[0]
    strides = (first.numel(), *first.stride())
    whole = torch.empty_strided(
        (len(tensors), *first.shape), strides, dtype=first.dtype, device=first.device
    )
    for own, lane in zip(tensors, whole, strict=True):
        own.data = lane.copy_(own.detach())
    return whole


class _Pass:
    """One step of all lanes."""

    def __init__(self, stack: Stack, steps: Sequence[DueStep]) -> None:
        self.stack, self.steps = stack, steps
        self.lead = steps[0]
        self.leaves: dict[str, dict[str, Tensor]] = {}
        batches = zip(*(tensors_of(step.batch) for step in steps), strict=True)
        batch = with_tensors(self.lead.batch, iter([torch.stack(one) for one in batches]))
        self.context = replace(self.lead.context, batch=batch)
        self.terms: dict[str, Tensor] = {}
        self.gates: Mapping[str, Tensor] = {}
        self.has_moved = False

    def take(self) -> None:
        self._prepare()
        self._observe()
        for repeat, playing in self.lead.rounds(self.context.wanted):
            for turn in playing:
                self._backward(turn, repeat)
            for turn in playing:
                self._move(turn.player)
        for lane, step in enumerate(self.steps):
            if step.found is None:
                step.found = Taken(
                    terms={name: value_L[lane] for name, value_L in self.terms.items()},
                    signals=step.signals,
                    gates={name: value_L[lane] for name, value_L in self.gates.items()},
                )

    def _prepare(self) -> None:
        stage = self.lead.stage
        if stage.prepare is None:
            return
        context = replace(self.context, turn="prepare")
        with torch.set_grad_enabled(stage.prepares_for is not None):
            shared = self._called(stage.prepare, context, stage.prepares_for)
        self.context = replace(self.context, shared=shared)

    def _observe(self) -> None:
        stage = self.lead.stage
        if stage.observe is None:
            return
        with torch.no_grad():
            found = self._called(stage.observe, replace(self.context, turn="observe"), None)
        for lane, step in enumerate(self.steps):
            sums = step.training.sums
            for name, value_L in found.items():
                value = value_L[lane].double()
                sums[name] = sums[name] + value if name in sums else value

    def _backward(self, turn: Turn, repeat: int) -> None:
        due = self.context.wanted.intersection(turn.terms)
        context = replace(
            self.context,
            wanted=due,
            turn=f"{self.lead.stage.name}/{turn.player}",
            repeat=repeat,
        )
        world = self.lead.training.world

        def loss(own: StepContext) -> dict[str, Tensor]:
            return means(world, turn.loss(own))

        found = self._called(loss, context, turn.player)
        assert set(found) == due, f"turn of {turn.player} gave {sorted(found)}"
        value_TL = torch.stack(list(found.values()))
        self._refuse_spoilt(turn, list(found), value_TL.detach())
        weight_TL = value_TL.new_tensor(
            [[step.weights[name] for step in self.steps] for name in found]
        )
        (weight_TL * value_TL).sum().backward()
        self.terms.update({name: value_L.detach() for name, value_L in found.items()})

    def _refuse_spoilt(self, turn: Turn, names: Sequence[str], value_TL: Tensor) -> None:
        """A lane whose terms are not finite moves no more; it can do nothing to the others."""
        for lane, bad in enumerate(zip(*(~torch.isfinite(value_TL)).tolist(), strict=True)):
            step = self.steps[lane]
            if any(bad) and step.found is None:
                spoilt = [name for name, flag in zip(names, bad, strict=True) if flag]
                step.found = NonFiniteTermError.of(step.training, step.stage, turn, spoilt)

    def _move(self, player: str) -> None:
        self.has_moved = True
        leaves = self.leaves.pop(player)
        for name, leaf in leaves.items():
            key = name.removeprefix(f"players.{player}.")
            grads = [None] * len(self.steps) if leaf.grad is None else leaf.grad.unbind()
            for step, grad in zip(self.steps, grads, strict=True):
                step.training.engines[player].parameters[key].grad = grad
        for step in self.steps:
            engine = step.training.engines[player]
            if step.found is None:
                engine.step(step.training.progress.fraction)

    def _called(
        self, function: Callable[[StepContext], Any], context: StepContext, moving: str | None
    ) -> Any:
        """What the function gives in each lane, every tensor with a leading L."""
        training = self.lead.training
        put_on_turn(training, moving)
        tensors = self.stack.tensors | (self._leaves(moving) if moving else {})
        shapes: list[Any] = []

        def one_lane(tensors: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            own = with_tensors(context, iter(inputs))
            found = functional_call(self.stack.whole, tensors, (function, own))
            shapes.append((found, dict(self.stack.system.gates())))
            return tuple(tensors_of(shapes[0]))

        with autocast(training):
            outputs = vmap(one_lane)(tensors, tuple(tensors_of(context)))
        found, gates = with_tensors(shapes[0], iter(outputs))
        self.gates = {name: value_L.detach() for name, value_L in gates.items()}
        return found

    def _leaves(self, player: str) -> dict[str, Tensor]:
        """The parameters that the player moves, ready for gradients; the same ones all the turn."""
        if player not in self.leaves:
            moved = self.lead.training.engines[player].parameters
            names = [f"players.{player}.{name}" for name in moved]
            self.leaves[player] = {
                name: self.stack.tensors[name].detach().requires_grad_() for name in names
            }
        return self.leaves[player]


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in dataclasses, mappings, tuples and lists, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in _parts(value) for tensor in tensors_of(part)]


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same with other tensors, which are taken in the order of `tensors_of`."""
    if isinstance(value, Tensor):
        return next(tensors)
    parts = [with_tensors(part, tensors) for part in _parts(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in dataclasses.fields(value)]
        return replace(value, **dict(zip(names, parts, strict=True)))
    if isinstance(value, Mapping):
        return dict(zip(value, parts, strict=True))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*parts)
    return type(value)(parts) if isinstance(value, (tuple, list)) else value


def _parts(value: Any) -> list[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, item.name) for item in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (tuple, list)) else []

"""Lanes in one pass: the steps of several trainings as one forward and one backward.

The numbers of their networks lie stacked, and each training's own tensors are views of its lane of
the stack. `torch.func.vmap` runs the turns of the first training's system over all lanes; each lane
weighs its own terms, and its own optimiser moves it. So all that is not forward or backward stays
as it is for a training alone: schedules, rates, averages, checkpoints, evaluation.

What is computed is the same, but sums are taken in another order: lanes end within what training
makes of rounding, not bit for bit as they would alone. Shapes: L lanes, T terms; what has a leading
L has it in front of the shape that a training alone has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from trainer.loop import autocast, means, put_on_turn
from trainer.system import StepContext, Turn
from trainer.tensor_trees import tensors_of, with_tensors
from trainer.training import DueStep, NonFiniteTermError
from tuning.stack import Stack, leave_stack, name_of

LOG = logging.getLogger(__name__)

Point = tuple[Any, Any]
"""Where steps must be to go together: the code that they run, and the turns that are due."""


class LostStepError(RuntimeError):
    """A step failed beside others in one pass; the training goes on from its last checkpoint."""


class Fused:
    """Takes steps together where the trainings are of one kin and stand at the same turns."""

    def __init__(self) -> None:
        self._stacks: list[Stack] = []
        self._tried: set[Point] = set()
        self._unable: set[Point] = set()

    def __call__(self, steps: Sequence[DueStep]) -> Sequence[DueStep]:
        """Take what can be taken together; gives the steps that are to wait for the others.

        The rest is left as it is, to be taken by each training alone.
        """
        groups, waiting = _groups(steps)
        self._stacks = [
            stack for stack in self._stacks if any(stack.holds(group) for group in groups.values())
        ]
        for point, group in groups.items():
            if len(group) > 1 and point not in self._unable:
                self._take(point, group)
            elif len(group) == 1:
                with _out_of_memory_told(group):
                    leave_stack(group[0].training)
        return waiting

    def _take(self, point: Point, steps: Sequence[DueStep]) -> None:
        """Take the steps; where that fails, none of them, or each is told why it is lost."""
        with _out_of_memory_told(steps):
            one_pass = _Pass(self._stack_of(steps), steps, is_first=point not in self._tried)
            try:
                one_pass.take()
                self._tried.add(point)
            except (torch.OutOfMemoryError, MemoryError):
                self._stacks = []
                raise
            except Exception as error:
                self._unable.add(point)
                LOG.warning("%s goes on in turns: %s", steps[0].training.run.system_name, error)
                if not one_pass.taken_back():
                    _lose(steps, f"one pass failed: {error}")

    def _stack_of(self, steps: Sequence[DueStep]) -> Stack:
        for stack in self._stacks:
            if stack.holds(steps):
                return stack
        self._stacks.append(Stack([step.training for step in steps]))
        return self._stacks[-1]


@contextmanager
def _out_of_memory_told(steps: Sequence[DueStep]) -> Iterator[None]:
    """The first lane is told, as it is the first to go on; one fewer then trains in this process.

    Without the frames of the error, which hold what is to be freed.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        _lose(steps, "a lane beside it ran out of memory")
        steps[0].found = torch.OutOfMemoryError(str(error))


def _lose(steps: Sequence[DueStep], reason: str) -> None:
    for step in steps:
        step.found = LostStepError(reason)


def _groups(steps: Sequence[DueStep]) -> tuple[dict[Point, list[DueStep]], list[DueStep]]:
    """Steps that go together, by what they have in common, and those that wait for others.

    A player may have a turn in every n-th step only. Lanes of one kin that are at different turns
    come to go together when those at which more is due wait for the others to be there as well.
    """
    alike: dict[Any, dict[Any, list[DueStep]]] = {}
    for step in steps:
        if step.training.kin:
            by_turns = alike.setdefault(_code_of(step), {})
            by_turns.setdefault(_turns_of(step), []).append(step)
    groups: dict[Point, list[DueStep]] = {}
    waiting: list[DueStep] = []
    for code, by_turns in alike.items():
        first, *others = sorted(by_turns, key=lambda turns: (len(turns), turns))
        groups[code, first] = by_turns[first]
        waiting += [step for turns in others for step in by_turns[turns]]
    return groups, waiting


def _code_of(step: DueStep) -> tuple[Any, ...]:
    """Steps with the same run the same code, up to their turns, on tensors of the same shapes."""
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors_of(step.batch))
    return (step.training.kin, step.stage.name, step.context.wanted, shapes)


def _turns_of(step: DueStep) -> tuple[tuple[str, int], ...]:
    return tuple((turn.player, repeat) for repeat, playing in step.rounds() for turn in playing)


class _Pass:
    """One step of all lanes."""

    def __init__(self, stack: Stack, steps: Sequence[DueStep], *, is_first: bool) -> None:
        self.stack, self.steps = stack, steps
        self.lead = steps[0]
        self.before = {name: stack.tensors[name].clone() for name in stack.buffers if is_first}
        self.has_moved = False
        self.leaves: dict[str, dict[str, Tensor]] = {}
        batches = zip(*(tensors_of(step.batch) for step in steps), strict=True)
        batch = with_tensors(self.lead.batch, iter([torch.stack(one) for one in batches]))
        self.context = replace(self.lead.context, batch=batch)
        self.terms: dict[str, Tensor] = {}

    def take(self) -> None:
        """Leaves in each step what came of it."""
        self._prepare()
        sums = self._observed()
        for repeat, playing in self.lead.rounds():
            for turn in playing:
                self._backward(turn, repeat)
            self.has_moved = True
            for player in dict.fromkeys(turn.player for turn in playing):
                self._move(player)
        self.has_moved = True
        for lane, step in enumerate(self.steps):
            kept = step.training.sums
            for name, value_L in sums.items():
                kept[name] = kept.get(name, 0.0) + value_L[lane].double()
            if step.found is None:
                step.found = {name: value_L[lane] for name, value_L in self.terms.items()}

    def taken_back(self) -> bool:
        """Undo a step that failed; False where that is not possible any more."""
        if self.has_moved or len(self.before) < len(self.stack.buffers):
            return False
        for name, value in self.before.items():
            self.stack.tensors[name].copy_(value)
        for step in self.steps:
            step.found = None
        return True

    def _prepare(self) -> None:
        stage = self.lead.stage
        if stage.prepare is None:
            return
        context = replace(self.context, turn="prepare")
        with torch.set_grad_enabled(stage.prepares_for is not None):
            shared = self._called(stage.prepare, context, stage.prepares_for)
        self.context = replace(self.context, shared=shared)

    def _observed(self) -> Mapping[str, Tensor]:
        observe = self.lead.stage.observe
        if observe is None:
            return {}
        with torch.no_grad():
            return self._called(observe, replace(self.context, turn="observe"), None)

    def _backward(self, turn: Turn, repeat: int) -> None:
        due = self.context.wanted.intersection(turn.terms)
        place = f"{self.lead.stage.name}/{turn.player}"
        context = replace(self.context, wanted=due, turn=place, repeat=repeat)
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
        engines = [step.training.engines[player] for step in self.steps]
        leaves = self.leaves.pop(player)
        for name in engines[0].parameters:
            grad_L = leaves[name_of(player, name)].grad
            grads = [None] * len(engines) if grad_L is None else grad_L.unbind()
            for engine, grad in zip(engines, grads, strict=True):
                engine.parameters[name].grad = grad
        for step, engine in zip(self.steps, engines, strict=True):
            if step.found is None:
                engine.step(step.training.progress.fraction)

    def _called(
        self, function: Callable[[StepContext], Any], context: StepContext, moving: str | None
    ) -> Any:
        """What the function gives in each lane, every tensor with a leading L."""
        training = self.lead.training
        put_on_turn(training, moving)
        tensors = self.stack.tensors | (self._leaves(moving) if moving else {})
        made: list[Any] = []  # by the one call that vmap makes

        def one_lane(tensors: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            own = with_tensors(context, iter(inputs))
            made.append(functional_call(self.stack.whole, tensors, (function, own)))
            return tuple(tensors_of(made[0]))

        with autocast(training):
            outputs = vmap(one_lane)(tensors, tuple(tensors_of(context)))
        return with_tensors(made[0], iter(outputs))

    def _leaves(self, player: str) -> dict[str, Tensor]:
        """The parameters that the player moves, ready for gradients; the same ones all the turn."""
        if player not in self.leaves:
            names = [name_of(player, one) for one in self.lead.training.engines[player].parameters]
            self.leaves[player] = {
                name: self.stack.tensors[name].detach().requires_grad_() for name in names
            }
        return self.leaves[player]

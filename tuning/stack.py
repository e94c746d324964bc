"""The networks of several trainings as one: every tensor stacked, a lane for each training.

Each training's own tensors become views of its lane, so that what moves the one moves the other.
L lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.training import DueStep, Training


class Stack:
    """Parameters and buffers of all players of several trainings, by name, [L, ...] each."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = list(trainings)
        self.whole = Whole(trainings[0])
        self.buffers = [name for name, _ in self.whole.named_buffers()]
        owned = [dict(_tensors(training)) for training in trainings]
        self.tensors = {name: _stacked([own[name] for own in owned]) for name in owned[0]}

    def holds(self, steps: Sequence[DueStep]) -> bool:
        """Whether the lanes are these trainings, in this order."""
        return [step.training for step in steps] == self.trainings


class Whole(nn.Module):
    """All players of a training as one module, within which any function can be called."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        modules = {name: player.module for name, player in training.players.items()}
        self.players = nn.ModuleDict(modules)

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _tensors(training: Training) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer, by the name that it has in `Whole`."""
    for player in training.players.values():
        for found in (player.module.named_parameters, player.module.named_buffers):
            for name, tensor in found():
                yield name_of(player.name, name), tensor


def name_of(player: str, tensor: str) -> str:
    """What a player's tensor is called in a stack."""
    return f"players.{player}.{tensor}"


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


def leave_stack(training: Training) -> None:
    """Give a training tensors of its own, so that no stack is kept for one lane."""
    for _, tensor in _tensors(training):
        if tensor.untyped_storage().nbytes() > tensor.nbytes:
            tensor.data = tensor.detach().clone()

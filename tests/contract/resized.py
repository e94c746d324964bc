"""Runs that go on with another number of workers, from a checkpoint on disk."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tests.contract import batches as made_of
from trainer import catalog, checkpoint
from trainer.config import RunConfig, weights_of
from trainer.loop import fit
from trainer.training import Training
from trainer.world import World

STEPS_PER_STAGE = 10
SGD_RATE = 1e-5
"""Small, so that the last bit of a sum stays the last bit; see `batches.with_sgd`."""


def recipe(name: str, zero: int | None, **overrides: Any) -> RunConfig:
    """The tiny network with the weights of the recipe `small`, which begin when they do there."""
    schedules = weights_of(catalog.recipe(f"{name}.small"))
    weights = {f"system.weights.{term}": schedule for term, schedule in schedules.items()}
    return made_of.tiny(name, ramps=True, **{"engine.zero": zero, **weights, **overrides})


def parameters(run: RunConfig) -> set[str]:
    """What optimisers move, by its name among the weights."""
    players = made_of.build(run).players()
    return {f"{one.name}/{key}" for one in players for key, _ in one.module.named_parameters()}


def trained(
    world: World, run: RunConfig, folder: Path, steps: int, sgd: bool = False
) -> dict[str, torch.Tensor]:
    """The weights so many steps after the newest checkpoint in `folder`, or after the start.

    With `sgd` that moves the players, from a start that is left a little.
    """
    return made_of.weights_of(_trained(world, run, folder, steps, sgd))


def saved(
    world: World, run: RunConfig, folder: Path, steps: int, sgd: bool = False
) -> dict[str, torch.Tensor]:
    """As `trained`; it is saved to `folder`."""
    training = _trained(world, run, folder, steps, sgd)
    picture = checkpoint.capture(training, {})
    if picture is not None:
        checkpoint.write(folder, picture)
    return made_of.weights_of(training)


def _trained(world: World, run: RunConfig, folder: Path, steps: int, sgd: bool) -> Training:
    training = made_of.training(run, world, STEPS_PER_STAGE)
    found = checkpoint.latest(folder)
    if sgd:
        made_of.move_by_sgd(training, SGD_RATE)
        made_of.leave_the_start(training)
    if found is not None:
        checkpoint.restore(training, found)
    for _ in islice(fit(training, made_of.batches(training)), steps):
        pass
    return training


def picture_stands(world: World, run: RunConfig) -> bool:
    """Whether a picture of the third step is the same after the fourth."""
    training = made_of.training(run, world, STEPS_PER_STAGE)
    moving = fit(training, made_of.batches(training))
    for _ in islice(moving, 3):
        pass
    picture = checkpoint.capture(training, {})
    if picture is None:
        next(moving)
        return True
    before = {key: value.clone() for key, value in picture.tensors.items()}
    next(moving)
    return picture.seconds > 0 and made_of.equal(before, dict(picture.tensors))


def counted(folder: Path) -> dict[str, set[float]]:
    """By player, how many steps its optimiser counted for its parameters, in the newest one."""
    found = checkpoint.latest(folder)
    assert found is not None
    steps: dict[str, set[float]] = {}
    for key, value in found.tensors.items():
        if key.startswith("moment/") and key.endswith("/step"):
            steps.setdefault(key.split("/")[1], set()).add(float(value))
    return steps

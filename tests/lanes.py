"""Trainings walked side by side, as a slot's lanes are."""

from __future__ import annotations

from collections.abc import Iterator

from data_service.schema import FaceBatch
from tests.contract import batches as made_of
from trainer.loop import due_steps, fit
from trainer.training import StepResult, Training
from tuning.fused import Fused

Told = dict[str, float]


def batches(training: Training) -> Iterator[FaceBatch]:
    """The training's batches, where it is trained."""
    return (one.to(training.world.device) for one in made_of.batches(training))


def alone(training: Training) -> list[Told]:
    """What a training told at each step."""
    return [told(step, training) for step in fit(training, batches(training))]


def told(result: StepResult, training: Training) -> Told:
    """Every term and every gate of a step."""
    values = dict(result.terms) | dict(training.system.gates())
    return {key: float(value) for key, value in values.items()}


def together(trainings: list[Training], fused: Fused) -> tuple[list[list[Told]], int]:
    """What every training told at each step, and how many steps were taken in company."""
    open_lanes = {lane: due_steps(one, batches(one)) for lane, one in enumerate(trainings)}
    heard: list[list[Told]] = [[] for _ in trainings]
    taken = 0
    while open_lanes:
        due = []
        for lane, steps in tuple(open_lanes.items()):
            item = next(steps, None)
            if isinstance(item, StepResult):
                heard[lane].append(told(item, trainings[lane]))
                item = next(steps, None)
            if item is None:
                del open_lanes[lane]
            else:
                due.append(item)
        fused(due)
        taken += sum(step.found is not None for step in due)
    return heard, taken

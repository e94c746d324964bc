"""What a search may aim at: names of validation metrics, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.system import SystemSpec

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A metric of the validation subjects; `capability` is what a system needs for having it."""

    name: str
    direction: Direction
    capability: str | None

    @property
    def maximizes(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"


SPEED = "images_per_second"
"""The one objective that no validation tells."""

_TABLE = {
    "macro_recall": ("maximize", "recognise", "macro_recall"),
    "accuracy": ("maximize", "recognise", "accuracy"),
    "edit_accuracy": ("maximize", "synthesise", "measures/synthesis/edit_accuracy"),
    "reconstruction": ("minimize", "synthesise", "measures/synthesis/reconstruction_error"),
    "kernel_distance": ("minimize", "synthesise", "measures/synthesis/kernel_distance"),
    "identity_similarity": ("maximize", "synthesise", "measures/synthesis/identity_similarity"),
    "verification_auc": ("maximize", "identify", "measures/identification/verification_auc"),
    "attribute_accuracy": ("maximize", "attributes", "measures/attributes/accuracy"),
    SPEED: ("maximize", None, SPEED),
}
"""Which way is better, what a system needs for it, where a tested run's result has the same."""

ON_TEST = {name: place.removeprefix("measures/") for name, (_, _, place) in _TABLE.items()}
"""Objectives by the figures of test subjects, as MLflow has them."""


SMALL_IS_GOOD = ("reconstruction", "error", "distance", "kid", "fid", "loss")
"""Words in the names of figures that are to be small."""


def is_less_better(figure: str) -> bool:
    """Whether a figure's name (as MLflow has it) names something that is to be small."""
    return any(word in figure for word in SMALL_IS_GOOD)


def objectives_of(spec: SystemSpec, names: Sequence[str] = ()) -> tuple[Objective, ...]:
    """The objectives by name; without names, the first that the system can have.

    ValueError lists what the system can be searched for.
    """
    valid = [
        name
        for name, (_, capability, _) in _TABLE.items()
        if capability is None or capability in spec.capabilities
    ]
    for name in names:
        if name not in valid:
            raise ValueError(
                f"unknown objective '{name}' of {spec.name}; valid: {', '.join(valid)}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"an objective is named twice: {', '.join(names)}")
    return tuple(
        Objective(name=name, direction=_TABLE[name][0], capability=_TABLE[name][1])
        for name in (names or valid[:1])
    )


def measuring(run: RunConfig, objectives: Sequence[Objective]) -> RunConfig:
    """The run, whose validation measures these objectives: identity costs a judge of its own."""
    identity = any(objective.name == "identity_similarity" for objective in objectives)
    evaluation = replace(run.evaluation, identity=run.evaluation.identity or identity)
    return replace(run, evaluation=evaluation)


def measured(
    objectives: Sequence[Objective], validation: Mapping[str, float], images_per_second: float
) -> dict[str, float]:
    """The objectives' values of one training, in order.

    ValueError where the validation did not measure one, FloatingPointError where it is not finite.
    """
    metrics = {**validation, SPEED: images_per_second}
    values = {}
    for objective in objectives:
        if objective.name not in metrics:
            raise ValueError(
                f"validation did not measure '{objective.name}'; valid: {', '.join(metrics)}"
            )
        value = float(metrics[objective.name])
        if not math.isfinite(value):
            raise FloatingPointError(f"{objective.name} is {value} on the validation subjects")
        values[objective.name] = value
    return values


def of_test(objectives: Sequence[Objective], result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's result (as JSON values) says of the objectives on its test subjects.

    Each is a figure with its interval (value, low, high), or a number; what was not measured is
    left out.
    """
    found = {}
    for objective in objectives:
        value: Any = result
        for key in _TABLE[objective.name][2].split("/"):
            value = (value or {}).get(key)
        if value is not None:
            found[objective.name] = value
    return found

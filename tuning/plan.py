"""What determines a search, so that one which goes on is the one that was begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.distributions import BaseDistribution, distribution_to_json

from tuning.objectives import Objective
from tuning.space import Conditions


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that determines a search besides its number of trials.

    `own` is the setting of trial 0. `generation_size` settings are proposed at a time, from the
    results of all generations before but the last one, which may still be trained (one setting at a
    time, of all before); a study keeps the size that it began with. `asynchronous` gives
    generations up: each setting is proposed from all that has ended by then, which depends on the
    clock. `about` names the run, the lake and what else a resumed search must share with the first.
    `sampler` models what was found: a Gaussian process, or trees (TPE), which also serve where
    there are several objectives or conditions; `conditions` is described at
    `tuning.space.SearchSpace`.
    """

    name: str
    distributions: Mapping[str, BaseDistribution]
    own: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    num_folds: int
    generation_size: int
    seed: int
    about: Mapping[str, str]
    conditions: Conditions = field(default_factory=dict)
    asynchronous: bool = False
    sampler: Literal["gp", "tpe"] = "gp"

    def identity(self) -> dict[str, str]:
        """What must be equal for a search to go on, by the name that an error gives it."""
        space = {
            f"space of {path}": distribution_to_json(item)
            for path, item in self.distributions.items()
        }
        return {
            **self.about,
            "objectives": ", ".join(item.name for item in self.objectives),
            "folds": str(self.num_folds),
            "seed": str(self.seed),
            "sampler": self.sampler,
            "order": "asynchronous" if self.asynchronous else "generations",
            **{f"condition of {path}": f"{a}={b}" for path, (a, b) in self.conditions.items()},
            **space,
        }


def check_same(plan: Plan, known: Mapping[str, str]) -> None:
    """ValueError where a study that is known by `known` is not of this plan; says in what."""
    given = plan.identity()
    for name in sorted({*given, *known}):
        if given.get(name) != known.get(name):
            raise ValueError(
                f"study '{plan.name}' cannot go on with another {name}: it has "
                f"{known.get(name, 'none')}, not {given.get(name, 'none')}"
            )

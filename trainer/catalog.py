"""Which systems exist: the folders below `systems/`, nothing else."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import trainer.systems
from trainer.config import RunConfig, wanted, weights_of
from trainer.system import SystemSpec


def names() -> tuple[str, ...]:
    """The systems, in alphabetical order."""
    found = pkgutil.iter_modules(trainer.systems.__path__)
    return tuple(sorted(module.name for module in found if module.ispkg))


def load(name: str) -> SystemSpec:
    """The spec of a system; ValueError lists the systems there are."""
    if name not in names():
        raise ValueError(f"unknown system '{name}'; valid: {', '.join(names())}")
    return importlib.import_module(f"trainer.systems.{name}").SPEC


def spec_of(run: RunConfig) -> SystemSpec:
    """The spec of the run's system, with the capabilities that it has in the run's variant."""
    spec = load(run.system_name)
    return replace(spec, capabilities=spec.capabilities - spec.lacks(run.system))


def wants(run: RunConfig) -> tuple[str, ...]:
    """What the recipe makes use of besides faces and their labels, in words."""
    needs = load(run.system_name).data(run.system)
    return (
        *needs.fields,
        *(["unaligned faces"] if needs.unaligned else []),
        *(f"{rule.replace('_', ' ')} partners" for rule in needs.partners),
        *(["identity network"] if _needs_identity(run) else []),
    )


def _needs_identity(run: RunConfig) -> bool:
    """Whether the recipe's system is given an identity network; not where its term is off."""
    terms = weights_of(run)
    is_off = "identity" in terms and "identity" not in wanted(terms)
    return hasattr(run.system, "identity_network") and not is_off


def recipe(text: str) -> RunConfig:
    """The run of `SYSTEM` or `SYSTEM.RECIPE` (by default `small`)."""
    name, _, chosen = text.partition(".")
    spec = load(name)
    chosen = chosen or "small"
    if chosen not in spec.recipes:
        valid = ", ".join(f"{name}.{key}" for key in spec.recipes)
        raise ValueError(f"unknown recipe '{name}.{chosen}'; valid: {valid}")
    return spec.recipes[chosen]()

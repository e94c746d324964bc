"""What the commands that train make of the options they share."""

from __future__ import annotations

import typer

from cluster.options import pairs
from trainer import catalog
from trainer.config import RunConfig
from trainer.overrides import with_overrides


def chosen_run(
    system: str | RunConfig,
    settings: list[str] | None,
    workers: int | None = None,
    zero: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
) -> RunConfig:
    """The recipe of that name, or the run, with the options that were given."""
    run = catalog.recipe(system) if isinstance(system, str) else system
    options = {
        "engine.workers": workers,
        "engine.zero": zero,
        "engine.precision": precision,
        "seed": seed,
    }
    given = {path: value for path, value in options.items() if value is not None}
    return with_overrides(run, {**given, **pairs(settings, "--set")})


def check_resume_alone(context: typer.Context, *beside: str) -> None:
    """ValueError where more is given with --resume than the parameters `beside`, and --json."""
    allowed = {"resume", "as_json", *beside}
    given = [
        one.metavar if one.param_type_name == "argument" else one.opts[0]
        for one in context.command.params
        if one.name not in allowed
        and str(context.get_parameter_source(str(one.name))).endswith("COMMANDLINE")
    ]
    if given:
        raise ValueError(
            f"--resume takes everything from the run; give nothing besides it: not {given[0]}"
        )

"""What the commands that train make of the options they share."""

from __future__ import annotations

import typer

from cluster.options import pairs
from trainer import catalog
from trainer.config import RunConfig
from trainer.overrides import canonical_path, with_overrides


def chosen_run(
    system: str | RunConfig,
    settings: list[str] | None,
    workers: str | None = None,
    zero: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
) -> RunConfig:
    """The recipe of that name, or the run, with the options that were given.

    ValueError where one says otherwise than a setting.
    """
    run = catalog.recipe(system) if isinstance(system, str) else system
    least, most = _worker_bounds(workers)
    options = {
        "engine.workers": ("--workers", most),
        "engine.least_workers": ("--workers", least),
        "engine.zero": ("--zero", zero),
        "engine.precision": ("--precision", precision),
        "seed": ("--seed", seed),
    }
    given = {path: value for path, (_, value) in options.items() if value is not None}
    chosen = pairs(settings, "--set")
    for name, text in chosen.items():
        path = canonical_path(run, name)
        if path in given and str(given[path]) != text:
            option, value = options[path]
            raise ValueError(f"--set {name}={text}, but {option} says {value}; give one of them")
    return with_overrides(run, {**given, **chosen})


def _worker_bounds(text: str | None) -> tuple[int | None, int | None]:
    """The least (None: as many as the most) and the most of `N` or `MIN:MAX`."""
    if text is None:
        return None, None
    least, between, most = text.rpartition(":")
    if not most.isdecimal() or bool(between) != least.isdecimal():
        raise ValueError(f"--workers {text}: valid: a number, or the least and the most, as in 2:4")
    return (int(least) if between else None), int(most)


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

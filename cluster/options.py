"""Options that several commands share, and what their texts stand for."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Recipe = Annotated[str, typer.Argument(metavar="SYSTEM[.RECIPE]", help="Without .RECIPE: small.")]
RecipeToBegin = Annotated[
    str | None,
    typer.Argument(metavar="SYSTEM[.RECIPE]", help="Without .RECIPE: small; not with --resume."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its start, or its folder.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Any setting of `mien systems --knobs`."),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|MIN:MAX",
        help="Training processes, on all machines; MIN:MAX: as many as fit, now and later.",
    ),
]
Zero = Annotated[int | None, typer.Option(help="DeepSpeed's ZeRO stage: 0, 1 or 2.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.")]
Seed = Annotated[int | None, typer.Option(help="Names the random numbers; equal seed, equal run.")]
Init = Annotated[
    str | None, typer.Option(metavar="RUN|FILE", help="Start weights: a run, or *.safetensors.")
]
InitOnly = Annotated[str, typer.Option(metavar="PATTERN", help="Which of them.")]
InitMap = Annotated[
    list[str] | None,
    typer.Option(metavar="OLD=NEW", help="Names there that begin with OLD begin with NEW here."),
]
AllowLeaks = Annotated[
    bool, typer.Option("--allow-leaks", help="Train though copies stand on both sides.")
]
Experiment = Annotated[str, typer.Option(help="The MLflow experiment.")]
Name = Annotated[str | None, typer.Option(help="How MLflow shows it.")]
Parallel = Annotated[int, typer.Option(min=1, help="How many at a time.")]


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping; ValueError for one without an equals sign, and for a name
    with two values."""
    form = "PATH=VALUE" if option == "--set" else "NAME=VALUE"
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"{option} {text}: it must look like {form}")
        name, value = name.strip(), value.strip()
        if found.setdefault(name, value) != value:
            raise ValueError(f"{option} {name} is given as {found[name]} and as {value}; give one")
    return found

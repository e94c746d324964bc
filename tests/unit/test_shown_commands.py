"""Every command that README and `--help` show is one that runs: recipe, settings, workers fit."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import mien
from data_service.schema import DatasetInfo, Expression
from trainer import catalog
from trainer.options import chosen_run

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"mien (?:--address \S+ )?((?:train|tune|crossval) [^;,\n`#]+)")
RUNS = ("RUN", "IDENTITY")


def shown() -> list[str]:
    """Commands that name a system, from README, from every help text, and from the examples."""
    spans = re.compile(r"`[^`\n]+\n[^`\n]+`")
    readme = (ROOT / "README.md").read_text().replace("\\\n", " ")
    readme = spans.sub(lambda span: span[0].replace("\n", " "), readme)
    texts = [readme, str(mien.app.info.epilog)]
    group = typer.main.get_command(mien.app)
    texts += [str(one.epilog) for one in group.commands.values()]  # type: ignore[attr-defined]
    texts += [path.read_text() for path in sorted((ROOT / "cluster" / "examples").iterdir())]
    found = {one.strip() for text in texts for one in SHOWN.findall(text)}
    return sorted(one for one in found if not one.split()[1].startswith("-") and "…" not in one)


def test_there_are_some() -> None:
    assert {one.split()[0] for one in shown()} == {"train", "tune", "crossval"}


@pytest.mark.parametrize("command", shown())
def test_it_runs(command: str) -> None:
    words = shlex.split(command)
    group = typer.main.get_command(mien.app)
    parsed = group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
    settings = dict(one.split("=", 1) for one in parsed.params["settings"] or ())
    settings = {path: "random" if value in RUNS else value for path, value in settings.items()}
    for one in parsed.params.get("search") or ():
        path, _, bounds = one.partition("=")
        settings[path] = bounds.split(":")[0]
    given = [f"{path}={value}" for path, value in settings.items()]
    run = chosen_run(parsed.params["system"], given, parsed.params.get("workers"))
    classes = run.data.classes or tuple(Expression)
    info = DatasetInfo(
        classes=classes,
        image_size=run.data.image_size,
        channels=1 if run.data.grey else 3,
        subjects=10,
        class_images=(1,) * len(classes),
    )
    assert catalog.load(run.system_name).build(run.system, info).stages()

"""Every command that a README or `--help` shows is one that runs: recipe, settings, workers fit."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import mien
from benchmarks.claim_list import CLAIMS
from data_service.schema import DatasetInfo, Expression
from trainer import catalog
from trainer.config import RunConfig
from trainer.options import chosen_run
from trainer.overrides import with_overrides

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"mien (?:--address \S+ )?((?:train|tune|crossval) [^;,\n`#]+)")
CLAIM = re.compile(r"python -m benchmarks\.claims ([^;,\n`#]+)")
RUNS = ("RUN", "IDENTITY", "RUN_OR_FILE", "VGG_FACE.pth")
WITHOUT_RUNS = {"system.teacher": ""}
"""What stands for a run where no network of its kind can be `random`."""
SYSTEM_READMES = sorted((ROOT / "trainer" / "systems").glob("*/README.md"))


def shown() -> list[str]:
    """Commands that name a system, from all READMEs, help texts and examples."""
    spans = re.compile(r"`[^`\n]+\n[^`\n]+`")
    readme = (ROOT / "README.md").read_text().replace("\\\n", " ")
    readme = spans.sub(lambda span: span[0].replace("\n", " "), readme)
    texts = [readme, str(mien.app.info.epilog)]
    group = typer.main.get_command(mien.app)
    texts += [str(one.epilog) for one in group.commands.values()]  # type: ignore[attr-defined]
    texts += [path.read_text() for path in sorted((ROOT / "cluster" / "examples").iterdir())]
    texts += [path.read_text() for path in SYSTEM_READMES]
    found = {one.strip() for text in texts for one in SHOWN.findall(text)}
    return sorted(one for one in found if not one.split()[1].startswith("-") and "…" not in one)


def claims() -> list[str]:
    """What stands behind `python -m benchmarks.claims` in the systems' READMEs."""
    texts = [path.read_text() for path in SYSTEM_READMES]
    return sorted({one.strip() for text in texts for one in CLAIM.findall(text)})


def without_runs(settings: dict[str, str]) -> dict[str, str]:
    """The settings, where no run has to be there."""
    return {
        path: WITHOUT_RUNS.get(path, "random") if value in RUNS else value
        for path, value in settings.items()
    }


def check_builds(run: RunConfig) -> None:
    """The system can be made for data that have all that any system asks for."""
    classes = run.data.classes or tuple(Expression)
    info = DatasetInfo(
        classes=classes,
        image_size=run.data.image_size,
        channels=1 if run.data.grey else 3,
        subjects=10,
        attributes=("glasses", "yaw"),
        landmarks=68,
        class_images=(1,) * len(classes),
    )
    assert catalog.load(run.system_name).build(run.system, info).stages()


def test_there_are_some() -> None:
    assert {one.split()[0] for one in shown()} == {"train", "tune", "crossval"}
    assert {one.split()[1].partition(".")[0] for one in shown()} >= set(catalog.names())
    assert "exprgan" in {one.split()[0] for one in claims()}


@pytest.mark.parametrize("command", shown())
def test_it_runs(command: str) -> None:
    words = shlex.split(command)
    group = typer.main.get_command(mien.app)
    parsed = group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
    settings = dict(one.split("=", 1) for one in parsed.params["settings"] or ())
    settings = without_runs(settings)
    for one in parsed.params.get("search") or ():
        path, _, bounds = one.partition("=")
        settings[path] = bounds.split(":")[0]
    given = [f"{path}={value}" for path, value in settings.items()]
    check_builds(chosen_run(parsed.params["system"], given, parsed.params.get("workers")))


@pytest.mark.parametrize("command", claims())
def test_both_sides_of_a_claim_can_be_trained(command: str) -> None:
    system, _, *options = shlex.split(command)
    assert options[:1] in ([], ["--set"])
    settings = without_runs(dict(one.split("=", 1) for one in options[1:]))
    for recipe, own in CLAIMS[system].sides().values():
        check_builds(with_overrides(catalog.recipe(recipe), own | settings))

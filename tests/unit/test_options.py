"""Options that are given twice, or beside a setting of the same meaning."""

from __future__ import annotations

import re

import pytest
import typer

import mien
from cluster.options import pairs
from trainer.options import chosen_run


@pytest.mark.parametrize(
    ("texts", "option", "says"),
    [
        (["a"], "--set", "--set a: it must look like PATH=VALUE"),
        (["a"], "--option", "--option a: it must look like NAME=VALUE"),
        (["a=1", "a=2"], "--set", "--set a is given as 1 and as 2; give one"),
    ],
)
def test_pairs_that_say_nothing_or_two_things(texts: list[str], option: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        pairs(texts, option)


def test_what_is_said_twice_alike_is_said_once() -> None:
    assert pairs(["a=1", "b=2", "a = 1"], "--set") == {"a": "1", "b": "2"}
    assert chosen_run("identity.tiny", ["engine.workers=4"], "4").engine.workers == 4


@pytest.mark.parametrize(
    ("settings", "given", "says"),
    [
        (["engine.workers=2"], {"workers": "4"}, "--set engine.workers=2, but --workers says 4;"),
        (["engine.least_workers=1"], {"workers": "2:4"}, "but --workers says 2; give one of them"),
        (["engine.zero=none"], {"zero": 1}, "but --zero says 1; give one of them"),
        (["seed=1"], {"seed": 0}, "--set seed=1, but --seed says 0; give one of them"),
    ],
)
def test_an_option_and_a_setting_that_differ(
    settings: list[str], given: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        chosen_run("identity.tiny", settings, **given)  # type: ignore[arg-type]


def test_help_says_what_may_be_given() -> None:
    group = typer.main.get_command(mien.app)
    commands = group.commands  # type: ignore[attr-defined]
    shown = {name: {one.name: one for one in commands[name].params} for name in commands}
    assert shown["audit"]["fold"].metavar == "K/N|official"
    assert "By default" not in shown["tune"]["system"].help
    assert shown["ingest"]["option"].metavar == "NAME=VALUE"

"""Published tables: the figures of papers, each with its source, and the protocol behind them.

All of them live in `published.json`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data_service.schema import Expression

PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A line of a table: a method and its figure in percent; `system` where it can be run here."""

    method: str
    figure: float
    source: str
    system: str = ""
    variant: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A published table and its protocol; `folds` is a number, or the corpus' official split.

    A corpus with several official splits makes as many `lakes`, and the mean over them is printed.
    """

    name: str
    title: str
    corpus: str
    classes: tuple[Expression, ...]
    folds: int | Literal["official"]
    metric: Literal["accuracy", "macro_recall"]
    protocol: str
    faces: int
    access: str
    ingest: str
    entries: tuple[Entry, ...]
    lakes: int = 1

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def tables() -> dict[str, Table]:
    """All tables by name."""
    values = json.loads(PUBLISHED.read_text())
    found = {}
    for name, one in values["tables"].items():
        entries = [Entry(**entry) for entry in one.pop("entries")]
        entries = [replace(entry, source=values["sources"][entry.source]) for entry in entries]
        classes = tuple(Expression(label) for label in one.pop("classes"))
        found[name] = Table(name=name, classes=classes, entries=tuple(entries), **one)
    return found


def table_named(name: str) -> Table:
    """The table of that name; ValueError lists the valid ones."""
    known = tables()
    if name not in known:
        raise ValueError(f"unknown table '{name}'; valid: {', '.join(known)}")
    return known[name]

"""Published tables: the figures of papers, each with its source, and the protocol behind them.

All of them live in `published.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data_service.schema import Expression

PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A trained network that figures stand on; `shape` where it is one of nets/identity_source."""

    what: str
    source: str
    shape: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A line of a table: a method and its figure in percent; `system` where it can be run here.

    The figure stands on the face network `identity`, given by `system.identity_network`, and on the
    weights `start`, given by `--init`; each None where it needs none, as far as is known.
    """

    method: str
    figure: float
    source: str
    system: str = ""
    variant: str = ""
    note: str = ""
    identity: Network | None = None
    start: Network | None = None


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
    sources, found = values["sources"], {}
    networks = {
        name: Network(**{**one, "source": sources[one["source"]]})
        for name, one in values["networks"].items()
    }
    for name, one in values["tables"].items():
        entries = [_entry(entry, sources, networks) for entry in one.pop("entries")]
        classes = tuple(Expression(label) for label in one.pop("classes"))
        found[name] = Table(name=name, classes=classes, entries=tuple(entries), **one)
    return found


def _entry(
    line: Mapping[str, Any], sources: Mapping[str, str], networks: Mapping[str, Network]
) -> Entry:
    stands_on = {key: networks[line[key]] for key in ("identity", "start") if key in line}
    return Entry(**{**line, "source": sources[line["source"]], **stands_on})


def table_named(name: str) -> Table:
    """The table of that name; ValueError lists the valid ones."""
    known = tables()
    if name not in known:
        raise ValueError(f"unknown table '{name}'; valid: {', '.join(known)}")
    return known[name]

"""The file of results: one entry for each run, and a row for each fault."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos.runner import Outcome
from benchmarks.photos import environment
from cluster.lock import held

MEASURED = ("detection_seconds", "recovery_seconds", "repeated_steps", "repeated_seconds")


def known(path: Path) -> set[tuple[str, int]]:
    """Fault and seed of the runs that the file holds."""
    return {(one["fault"], one["seed"]) for one in _read(path)}


def add(path: Path, outcome: Outcome) -> None:
    """Put a run into the file; several campaigns may write to one file."""
    with held(path.with_suffix(".lock")):
        runs = sorted([*_read(path), asdict(outcome)], key=lambda one: (one["fault"], one["seed"]))
        values = {"environment": environment(), "table": rows(runs), "runs": runs}
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(values, indent=1) + "\n")
        draft.replace(path)


def rows(runs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each fault's runs, how many broke an invariant, and median and most of what was measured."""
    by_fault: dict[str, list[dict[str, Any]]] = {}
    for one in runs:
        by_fault.setdefault(one["fault"], []).append(one)
    return {
        fault: {
            "runs": len(found),
            "broken": sum(bool(one["broken"]) for one in found),
            **{name: _median_and_most(found, name) for name in MEASURED},
        }
        for fault, found in by_fault.items()
    }


def _median_and_most(runs: list[dict[str, Any]], name: str) -> list[float] | None:
    values = [one[name] for one in runs if one[name] is not None]
    return [round(statistics.median(values), 2), round(max(values), 2)] if values else None


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["runs"] if path.exists() else []

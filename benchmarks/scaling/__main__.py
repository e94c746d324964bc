"""Measure one of the four; see the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.photos import environment
from benchmarks.scaling import load, polling, ranks, saving


def main() -> None:
    """Measure, and write it beside what the file holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("what", choices=("steps", "saving", "load", "polling"))
    parser.add_argument("lake", type=Path, nargs="?", help="Not of `polling`.")
    parser.add_argument("--recipes", nargs="*", default=["fersnet.small", "identity.small"])
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100, help="Of `steps`.")
    parser.add_argument("--pairs", type=int, default=16, help="Of `saving`.")
    parser.add_argument("--block", type=int, default=20, help="Of `saving`: steps of a block.")
    parser.add_argument("--threads", type=int, default=1, help="Of `saving`: of each worker.")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="Of `saving`.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.json"))
    given = parser.parse_args()
    if given.what == "polling":
        _keep(given.out, "polling", {"rows": polling.measure()})
        return
    if given.lake is None:
        parser.error(f"{given.what} needs a LAKE, a folder that `mien ingest` made")
    if given.what == "load":
        _keep(given.out, "load", load.everything(given.lake, given.recipes[0]))
        return
    blocks = saving.Blocks(
        pairs=given.pairs,
        steps=given.block,
        threads=given.threads,
        changes=dict(pair.split("=", 1) for pair in given.set),
    )
    for recipe in given.recipes:
        for workers in given.workers:
            if given.what == "steps":
                row = ranks.measure(given.lake, recipe, workers, given.steps)
            else:
                row = saving.measure(given.lake, recipe, workers, blocks)
            _keep_row(given.out, given.what, row)


def _keep_row(out: Path, what: str, row: dict[str, Any]) -> None:
    """In place of the one of as many workers of that recipe."""
    rows = _read(out).get(what, [])
    others = [old for old in rows if any(old[key] != row[key] for key in ("recipe", "workers"))]
    _write(out, what, [*others, row | {"commit": environment()["commit"]}])


def _keep(out: Path, what: str, values: dict[str, Any]) -> None:
    _write(out, what, values | {"commit": environment()["commit"]})


def _read(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text()) if out.exists() else {}


def _write(out: Path, what: str, values: Any) -> None:
    out.write_text(
        json.dumps(_read(out) | {what: values, "environment": environment()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()

"""Measure one of the three; see the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.photos import environment
from benchmarks.scaling import load, ranks, saving


def main() -> None:
    """Measure, and write it beside what the file holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("what", choices=("steps", "saving", "load"))
    parser.add_argument("lake", type=Path)
    parser.add_argument("--recipes", nargs="*", default=["fersnet.small", "identity.small"])
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100, help="Of `steps`.")
    parser.add_argument("--pairs", type=int, default=16, help="Of `saving`.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.json"))
    given = parser.parse_args()
    if given.what == "load":
        _keep(given.out, "load", load.everything(given.lake, given.recipes[0]))
        return
    found = []
    for recipe in given.recipes:
        for workers in given.workers:
            if given.what == "steps":
                found.append(ranks.measure(given.lake, recipe, workers, given.steps))
            else:
                found.append(saving.measure(given.lake, recipe, workers, given.pairs))
            _keep(given.out, given.what, found)


def _keep(out: Path, what: str, values: Any) -> None:
    results = json.loads(out.read_text()) if out.exists() else {}
    results |= {what: values, "environment": environment()}
    out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Measure one of the three; see the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    if given.what == "steps":
        results["steps"] = [
            ranks.measure(given.lake, recipe, workers, given.steps)
            for recipe in given.recipes
            for workers in given.workers
        ]
    elif given.what == "saving":
        results["saving"] = [
            saving.measure(given.lake, recipe, workers, given.pairs)
            for recipe in given.recipes
            for workers in given.workers
        ]
    else:
        results["load"] = load.everything(given.lake, given.recipes[0])
    results["environment"] = environment()
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results[given.what], indent=1))


if __name__ == "__main__":
    main()

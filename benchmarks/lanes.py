"""Are several trials as lanes of one pass faster than one after another, and do they end alike?

Method. `speed`: so many lanes of a recipe, of different learning rates, take the same batches,
which lie in memory, as trials of one seed do. `apart`: a step of every lane by the project's loop,
one after the other. `fused`: the same steps by the same loop, taken together by `tuning.fused`.
Blocks of steps alternate; median of the blocks, on one thread, or on a GPU where there is one. The
first stage of each recipe counts; sizes of `baseline.tiny` go from the recipe down to a toy.

`ends`: whole trainings of `baseline.tiny` at four learning rates, each alone and all in one pass,
and at the recipe's own rate with other seeds: how far the validation recall of a lane is from that
of the training alone, beside how far those of seeds lie apart.

    python -m benchmarks.lanes LAKE [--parts speed ends] [--lanes 4 8] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.photos import environment
from data_service.lakes.lake import Lake
from trainer import catalog, feed
from trainer.config import RunConfig
from trainer.kin import kin_of
from trainer.launch import train_in_steps
from trainer.loop import begin, due_steps
from trainer.overrides import with_overrides
from trainer.system import FaceBatch
from trainer.training import DueStep, StepResult, Training
from trainer.world import World
from tuning.fused import Fused
from tuning.lanes import Lane, Together, take_turns

RATE = "system.optimizer.learning_rate"
SIZES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "baseline.tiny": ("baseline.tiny", {}),
    "baseline.tiny, half its width": ("baseline.tiny", {"system.network.width": 0.25}),
    "baseline.tiny, a quarter of its width, 24 px, batches of 8": (
        "baseline.tiny",
        {
            "system.network.width": 0.125,
            "data.image_size": 24,
            "data.global_batch_images": 8,
        },
    ),
    "fersnet.tiny": ("fersnet.tiny", {"system.identity_network": "random"}),
    "exprgan.tiny": ("exprgan.tiny", {"system.identity_network": "random"}),
}
STEPS, BLOCKS, BATCHES = 4, 8, 8
RATES, SEEDS = (5e-4, 1e-3, 2e-3, 3e-3), (0, 1, 2, 3)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def trainings(run: RunConfig, data: feed.TrainingData, lanes: int) -> list[Training]:
    """As many of one kin as there are lanes, each with a rate of its own."""
    found = []
    spec = feed.spec_of(run)
    for lane in range(lanes):
        own = with_overrides(run, {RATE: 1e-4 * (lane + 1)})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(lane)
            one = begin(own, spec.build(own.system, data.info), World.alone(DEVICE))
        one.kin = kin_of(own, spec, data.info)
        found.append(one)
    return found


def stepping(
    lanes: Sequence[Training], batches: Sequence[FaceBatch], together: Together | None
) -> Iterator[None]:
    """A step of every lane at a time."""
    walks = [due_steps(one, cycle(batches)) for one in lanes]
    while True:
        due = [step for walk in walks if isinstance(step := next(walk), DueStep)]
        if together is not None:
            together(due)
        assert all(isinstance(next(walk), StepResult) for walk in walks)
        yield


def compared(run: RunConfig, lake: Lake, lanes: int) -> dict[str, float]:
    """Both ways in alternating blocks."""
    data = feed.prepare(run, feed.spec_of(run), lake, "1/5")
    (first,) = trainings(run, data, 1)
    with feed.open_batches(data, lake, None, first, None) as stream:
        batches = [next(stream).to(DEVICE) for _ in range(BATCHES)]
    ways = {
        "apart": stepping(trainings(run, data, lanes), batches, None),
        "fused": stepping(trainings(run, data, lanes), batches, Fused()),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        timed(way)
    for block in range(BLOCKS):
        for name in ways if block % 2 else reversed(ways):
            found[name].append(timed(ways[name]))
    apart, fused = (float(np.median(found[name])) for name in ("apart", "fused"))
    return {
        "apart_ms": round(apart, 2),
        "fused_ms": round(fused, 2),
        "gain": round(apart / fused, 2),
    }


def timed(way: Iterator[None]) -> float:
    """Milliseconds of a step of all lanes."""
    started = time.perf_counter()
    for _ in range(STEPS):
        next(way)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / STEPS * 1000


def speed(lake: Lake, numbers: Sequence[int]) -> dict[str, Any]:
    """Every size with every number of lanes."""
    rows = {}
    for size, (recipe, changes) in SIZES.items():
        run = with_overrides(catalog.recipe(recipe), {"data.stream": "local", **changes})
        rows[size] = {f"{lanes} lanes": compared(run, lake, lanes) for lanes in numbers}
        print(size, rows[size], flush=True)
    return rows


def ends(lake: Lake) -> dict[str, Any]:
    """What whole trainings come to, by percentage points of validation recall."""
    plain = {"data.stream": "local", "evaluation.every_images": 1 << 30}
    run = with_overrides(catalog.recipe("baseline.tiny"), plain)
    at_rates = [with_overrides(run, {RATE: rate}) for rate in RATES]
    seeds = recalls([with_overrides(run, {"seed": seed}) for seed in SEEDS], lake, None)
    alone = recalls(at_rates, lake, None)
    fused = recalls(at_rates, lake, Fused())
    return {
        "rates": RATES,
        "alone": alone,
        "fused": fused,
        "seeds": seeds,
        "furthest_from_alone": round(max(abs(a - b) for a, b in zip(alone, fused, strict=True)), 2),
        "seeds_apart_on_average": round(
            float(np.mean([abs(a - b) for a, b in combinations(seeds, 2)])), 2
        ),
    }


def recalls(runs: Sequence[RunConfig], lake: Lake, together: Together | None) -> list[float]:
    """Of each training, in percent; all are lanes, which take turns without `together`."""
    found: dict[int, float] = {}

    def lane(number: int, run: RunConfig) -> Lane:
        result = yield from train_in_steps(run, lake.path, fold="1/5", validation_only=True)
        found[number] = round(100 * result.validation["macro_recall"], 2)

    take_turns([lane(*item) for item in enumerate(runs)], together)
    return [found[number] for number in range(len(runs))]


def main() -> None:
    """Measure what is asked for; the other parts of the file stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--parts", nargs="+", choices=["speed", "ends"], default=["speed", "ends"])
    parser.add_argument("--lanes", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lanes.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    lake = Lake.open(given.lake)
    parts: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(lake, given.lanes),
        "ends": lambda: ends(lake),
    }
    result = json.loads(given.out.read_text()) if given.out.exists() else {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["MIEN_HOME"] = home
        for name in given.parts:
            result[name] = {"device": DEVICE, "threads": 1, **parts[name]()}
    result["environment"] = environment()
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

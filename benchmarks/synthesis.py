"""How many synthetic faces a second are made, and what a training pays that draws them.

Method. `makers`: a trained run makes faces of the training subjects of its fold, until every class
has so many, behind the gate as it is by default. Told are admitted and tried faces per second
between the first batch kept and the last: loading, starting actors and training the judges are left
out. `here` is one process without Ray. `one_pool` says whether all numbers of actors made the same.

`beside`: `baseline.tiny` is trained for 64,000 images with one thread on the same fold in three
ways, which alternate, one round of all after the other: `alone` on real faces; `pool` with a share
of 0.3 from that pool; `live`, the same share from a generator that works meanwhile as an actor on
the other core. Each training has a home of its own, where the generator's runs are linked and no
judge is kept: the actor trains its judges anew while the run goes on. Told are each way's images
per second, as the run reports them, the median over the rounds, the medians of the rounds' ratios
to `alone`, and in `shown` for each round the share of all faces that were synthetic and the number
of the first step that showed one (from 0; null where none did).

    python -m benchmarks.synthesis RUN LAKE [--actors 1 2] [--until 60] [--rounds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.photos import environment
from cluster.home import runs_dir
from cluster.session import connect
from data_service.lakes.lake import Lake
from data_service.synthesis.live_pool import open_pool
from trainer import catalog, feed, launch
from trainer import job as jobs
from trainer.config import RunConfig
from trainer.overrides import with_overrides
from trainer.synthetic.synthesise import synthesise

SHARE = 0.3
LEARNER, IMAGES = "baseline.tiny", 64_000


def made(run: str, lake: Path, out: Path, until: int, actors: int) -> dict[str, Any]:
    """Faces per second, and which pool came of it."""
    seen: list[tuple[float, int]] = []
    pool = synthesise(
        run,
        lake,
        out,
        until=until,
        actors=actors,
        progress=lambda admitted, _: seen.append((time.perf_counter(), admitted)),
    )
    (started, first), (ended, last) = seen[0], seen[-1]
    tried = sum(pool.manifest.attempts.values())
    rate = (last - first) / (ended - started)
    return {
        "faces_per_second": round(rate, 1),
        "tried_per_second": round(rate * tried / len(pool), 1),
        "faces": len(pool),
        "tried": tried,
        "hash": pool.hash,
    }


def measure_makers(
    run: str, lake: Path, folder: Path, actors: list[int], until: int
) -> dict[str, Any]:
    """Faces per second, here and by actors; the pools lie in the folder, by number of actors."""
    found = {}
    for count in (0, *actors):
        with connect(num_cpus=max(actors)):
            card = made(run, lake, folder / str(count), until, count)
        found[str(count) if count else "here"] = card
        print(count, card, file=sys.stderr, flush=True)
    return found | {"one_pool": len({one["hash"] for one in found.values()}) == 1}


@contextmanager
def fresh_home() -> Iterator[None]:
    """A home with the runs of this one and nothing else, for the length of the block."""
    runs = list(runs_dir().iterdir())
    with (
        tempfile.TemporaryDirectory() as name,
        patch.dict(os.environ, {"MIEN_HOME": name}),
    ):
        runs_dir().mkdir()
        for run in runs:
            (runs_dir() / run.name).symlink_to(run)
        yield


def shown(directory: Path, synthetic: Path) -> dict[str, Any]:
    """What the run in the directory saw of its sealed or live pool."""
    job = jobs.load(directory)
    lake, spec = Lake.open(job.lake), feed.spec_of(job.run)
    data = feed.prepare(job.run, spec, lake, job.fold)
    stages = spec.build(job.run.system, data.info).stages()
    plan = feed.plan_of(job.run, data, lake, stages, open_pool(synthetic))
    steps = [plan.step(index).synthetic for index in range(plan.num_steps)]
    return {
        "share": round(float(np.concatenate(steps).mean()), 4),
        "first_step": next((index for index, step_B in enumerate(steps) if step_B.any()), None),
    }


def measure_beside(generator: str, lake: Path, pool: Path, rounds: int) -> dict[str, Any]:
    """Images per second of a training alone, with a sealed pool, and with one in the making."""
    fold = jobs.load(jobs.find(generator)).fold
    settings = {"system.images": IMAGES, "engine.threads": 1, "evaluation.every_images": 0}
    alone = with_overrides(catalog.recipe(LEARNER), settings)
    mixed = with_overrides(alone, {"data.synthetic_share": SHARE})
    ways: dict[str, tuple[RunConfig, str | Path | None]] = {
        "alone": (alone, None),
        "pool": (mixed, pool),
        "live": (mixed, f"live:{generator}"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    seen: dict[str, list[dict[str, Any]]] = {"pool": [], "live": []}
    for index in range(rounds):
        for name, (run, synthetic) in ways.items():
            with fresh_home(), connect(num_cpus=2):
                result = launch.train(
                    run, lake, fold=fold, synthetic=synthetic, validation_only=True
                )
                if name in seen:
                    faces = result.directory / "live" if name == "live" else pool
                    seen[name].append(shown(result.directory, faces))
            rates[name].append(result.images_per_second)
            print(f"round {index}: {name} {rates[name][-1]:.0f} images/s", file=sys.stderr)
    ratios = {
        name: round(median(a / b for a, b in zip(rates[name], rates["alone"], strict=True)), 3)
        for name in ("pool", "live")
    }
    return {
        "images_per_second": {name: round(median(values), 1) for name, values in rates.items()},
        "ratio_to_alone": ratios,
        "by_round": {name: [round(one, 1) for one in values] for name, values in rates.items()},
        "shown": seen,
    }


def main() -> None:
    """Measures and tells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("lake", type=Path)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--until", type=int, default=60, help="Faces of each class.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makers = measure_makers(options.run, options.lake, folder, options.actors, options.until)
        beside = measure_beside(options.run, options.lake, folder / "0", options.rounds)
    result = {
        "method": " ".join(__doc__.split("Method. ")[1].split("\n    python")[0].split()),
        "environment": environment(),
        "makers": makers,
        "beside": beside,
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

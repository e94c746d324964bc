"""What every system costs: its size, its speed, and where the time of a training step goes.

Method. Every system trains by the house's own loop (stream, plan, augmentation, checks, averages)
in a process of its own, on all cores, on drawn faces somewhat larger than what its recipe cuts out;
weights that rise in training have their last value, and identity networks are random. Of each stage
some steps warm up and the median of the following ones counts. Images per second in training are
those of the whole recipe: each stage by its own speed and its share of the images. Inference is
`predict` on batches of 32 faces. A step's time is told apart into networks and losses (`prepare`,
the turns' losses without the noise that they ask for, backward), the optimisers, and what is
outside of both: waiting for the batch, noise, weighing and checks, averages. Memory is the peak
of the process. At `paper` size a batch may be smaller than the recipe's, so that memory and time
allow; both are stated; memory still grows in these few steps: read the shares, not the speed.

    mien ingest drawn --lake TINY --size 56, SCENES --size 72 --option scenes=true, LARGE --size 240
    python -m benchmarks.systems tiny TINY --scenes SCENES
    python -m benchmarks.systems paper LARGE --scenes LARGE_SCENES --batch 8 --systems fersnet
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.peak import peak_mib
from benchmarks.photos import environment
from cluster.memory import keep_freed_blocks
from data_service.lakes.lake import Lake
from trainer import catalog, engines, feed
from trainer import system as contract
from trainer.config import RunConfig, weights_of
from trainer.loop import begin, fit
from trainer.overrides import knobs, with_overrides
from trainer.schedules import Ramp
from trainer.scorecard.evaluate import evaluating, evaluation_batch, labels_of
from trainer.system import Stage
from trainer.training import Training
from trainer.world import World

FOLD = "1/3"
INFERENCE_FACES = 32
STEPS = {"tiny": (3, 12), "paper": (1, 2)}
"""Steps of each stage that warm up, and that count."""


class Clock:
    """Seconds by what they were spent on; an inner part is not counted in the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens within it counts to `name`."""
        self._lap()
        self._running.append(name)
        try:
            yield
        finally:
            self._lap()
            self._running.pop()

    def _lap(self) -> None:
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted."""

        def counted(*given: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*given, **named)

        return counted


def recipe_of(name: str, size: str) -> RunConfig:
    """The recipe with all terms at work and a random identity network."""
    run = catalog.recipe(f"{name}.{size}")
    known = {knob.path for knob in knobs(run)}
    ends = {
        f"system.weights.{term}": schedule.peak
        for term, schedule in weights_of(run).items()
        if isinstance(schedule, Ramp)
    }
    ends |= {"system.identity_network": "random"} if "system.identity_network" in known else {}
    return with_overrides(run, {"data.stream": "local", **ends})


def takes_unaligned(name: str, size: str) -> bool:
    """Whether the system is meant for faces that nobody aligned."""
    run = catalog.recipe(f"{name}.{size}")
    return feed.spec_of(run).data(run.system).unaligned


def shortened(training: Training, steps: int, batch: int | None) -> None:
    """Every stage for `steps` steps, with batches of at most `batch` images."""
    training.stages = tuple(_shortened(training, stage, steps, batch) for stage in training.stages)
    training.progress = replace(training.progress, stage_total=training.stages[0].images)


def _shortened(training: Training, stage: Stage, steps: int, batch: int | None) -> Stage:
    if batch and stage.data and (stage.data.batch_images or 0) > batch:
        stage = replace(stage, data=replace(stage.data, batch_images=batch))
    return replace(stage, images=steps * training.batch_images(stage))


def counted(training: Training, clock: Clock) -> None:
    """Make the stages' functions, the engines and the noise count on the clock."""
    stages = []
    for stage in training.stages:
        groups = tuple(
            tuple(replace(turn, loss=clock.timed("networks", turn.loss)) for turn in group)
            for group in stage.groups()
        )
        hooks = {
            name: clock.timed("networks", hook)
            for name in ("prepare", "observe")
            if (hook := getattr(stage, name)) is not None
        }
        stages.append(replace(stage, turns=groups, **hooks))
    training.stages = tuple(stages)
    for method, part in (("backward", "networks"), ("step", "optimisers")):
        plain = getattr(engines.TorchEngine, method)
        setattr(engines.TorchEngine, method, clock.timed(part, plain))
    contract.keyed_noise = clock.timed("outside", contract.keyed_noise)


def stage_costs(training: Training, stream: Any, warm: int, clock: Clock) -> list[dict[str, Any]]:
    """Of each stage: the median step, and the share of the parts in all steps that count.

    The last step of a stage, which also closes it, does not count.
    """
    found = []
    steps = fit(training, stream)
    for stage in training.stages:
        batch = training.batch_images(stage)
        seconds, parts = [], {"networks": 0.0, "optimisers": 0.0, "outside": 0.0}
        for index in range(stage.images // batch):
            clock.seconds.clear()
            started = time.perf_counter()
            with clock.part("outside"):
                next(steps)
            if warm <= index < stage.images // batch - 1:
                seconds.append(time.perf_counter() - started)
                parts = {name: parts[name] + clock.seconds.get(name, 0.0) for name in parts}
        step = statistics.median(seconds)
        total = sum(parts.values())
        found.append(
            {
                "stage": stage.name,
                "batch_images": batch,
                "step_ms": round(step * 1000, 2),
                "images_per_second": round(batch / step, 2),
                **{f"{name}_share": round(value / total, 4) for name, value in parts.items()},
            }
        )
    return found


def whole(run: RunConfig, training: Training, stages: list[dict[str, Any]]) -> dict[str, float]:
    """All stages together, each by its images in the recipe."""
    images = {stage.name: stage.images for stage in training.system.stages()}
    seconds = {one["stage"]: images[one["stage"]] / one["images_per_second"] for one in stages}
    total = sum(seconds.values())
    shares = {
        name: round(sum(one[name] * seconds[one["stage"]] for one in stages) / total, 4)
        for name in ("networks_share", "optimisers_share", "outside_share")
    }
    return {"images_per_second": round(sum(images.values()) / total, 2), **shares}


def inference(training: Training, data: feed.TrainingData, lake: Lake, repeats: int) -> float:
    """Images per second of `predict`."""
    rows = data.fold.test_rows[:INFERENCE_FACES]
    labels = labels_of(lake, rows, data.info)
    batch = evaluation_batch(lake, rows, labels, training.run, data.info)
    seconds = []
    with torch.inference_mode(), evaluating(training.system):
        for _ in range(repeats + 1):
            started = time.perf_counter()
            training.system.predict(batch)
            seconds.append(time.perf_counter() - started)
    return round(len(rows) / statistics.median(seconds[1:]), 2)


def parameters(training: Training) -> dict[str, int]:
    """Numbers of every player and frozen network; of a closed form those that it solves for."""
    modules = {name: player.module for name, player in training.players.items()}
    modules |= {f"frozen {name}": net for name, net in training.system.frozen().items()}
    counts = {
        name: sum(one.numel() for one in module.parameters()) for name, module in modules.items()
    }
    return counts or {name: t.numel() for name, t in training.system.state_dict().items()}


def operations(training: Training, stream: Any, count: int) -> list[dict[str, Any]]:
    """The operators that a profiled step spends its time in, the longest first."""
    steps = fit(training, stream)
    for _ in islice(steps, 1):
        pass
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        next(steps)
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    return [
        {
            "operator": row.key,
            "calls": row.count,
            "share": round(row.self_cpu_time_total / total, 4),
        }
        for row in rows[:count]
    ]


def measured(name: str, size: str, lake_path: Path, batch: int | None, profiled: int) -> Any:
    """One system in this process."""
    keep_freed_blocks()
    run = recipe_of(name, size)
    wanted = run.data.global_batch_images
    if batch and batch < wanted:
        run = with_overrides(run, {"data.global_batch_images": batch})
    lake = Lake.open(lake_path)
    spec = feed.spec_of(run)
    data = feed.prepare(run, spec, lake, FOLD)
    torch.manual_seed(run.seed)
    training = begin(run, spec.build(run.system, data.info), World.alone())
    warm, count = STEPS[size]
    shortened(training, warm + count + 1, batch)
    found: dict[str, Any] = {
        "image_size": run.data.image_size,
        "recipe_batch_images": wanted,
        "parameters": parameters(training),
    }
    with feed.open_batches(data, lake, None, training, None) as stream:
        if profiled:
            return {"batch_images": batch or wanted, **found} | {
                "operators": operations(training, stream, profiled)
            }
        clock = Clock()
        counted(training, clock)
        stages = stage_costs(training, stream, warm, clock)
    found |= {"training": whole(run, training, stages), "stages": stages}
    found["inference_images_per_second"] = inference(training, data, lake, count)
    peak_gib = round(peak_mib() / 1024, 2)
    return found | {"peak_gib": peak_gib, "threads": torch.get_num_threads()}


def main() -> None:
    """Measure what is asked for, one process each; what the file holds already is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=sorted(STEPS))
    parser.add_argument("lake", type=Path)
    parser.add_argument("--scenes", type=Path, help="for systems of faces that are not aligned")
    parser.add_argument("--systems", nargs="*", default=catalog.names())
    parser.add_argument("--batch", type=int, help="at most so many images in a batch")
    parser.add_argument("--profile", type=int, default=0, help="list so many operators instead")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/systems.json"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        one = (arguments.systems[0], arguments.size, arguments.lake)
        return print(json.dumps(measured(*one, arguments.batch, arguments.profile)))
    unaligned = [name for name in arguments.systems if takes_unaligned(name, arguments.size)]
    if arguments.scenes is None and unaligned:
        names = ", ".join(unaligned)
        parser.error(f"{names}: faces that nobody aligned are needed; give --scenes, or --systems")
    for name in arguments.systems:
        lake = arguments.scenes if name in unaligned else arguments.lake
        card = _alone(name, lake, arguments)
        results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        part = f"{arguments.size} profile" if arguments.profile else arguments.size
        results.setdefault(name, {})[part] = card | {"environment": environment()}
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        print(name, card.get("training"), card.get("inference_images_per_second"), flush=True)


def _alone(name: str, lake: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The measurement in a fresh process, which sets no record of memory for the next one."""
    command = [sys.executable, "-m", "benchmarks.systems", arguments.size, str(lake), "--here"]
    command += ["--systems", name, "--profile", str(arguments.profile)]
    command += ["--batch", str(arguments.batch)] if arguments.batch else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

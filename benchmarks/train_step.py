"""What the house costs: a step of a recipe under `mien train`, and in a bare torch loop.

Method. Both train the same network from the same weights with the same number of threads in one
process, whose allocator is set as `mien train` sets it. The house: stream, plan, augmentation,
checks, averages, logging of a run of its own. The bare loop: batches that lie in memory, the
system's loss functions, torch optimisers, nothing else. Blocks of steps alternate, the order of
each pair alternates too; the figure is the median over the blocks of house time over bare time.
Weights that rise in training have their last value.

    python -m benchmarks.train_step LAKE --recipe fersnet.small
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.photos import environment
from cluster.memory import keep_freed_blocks
from data_service.lakes.lake import Lake
from trainer import catalog, feed
from trainer.config import RunConfig, weights_of
from trainer.engines import _optimizer, trained_parameters
from trainer.loop import begin, fit
from trainer.overrides import with_overrides
from trainer.schedules import Ramp, value_at
from trainer.system import FaceBatch, Mean, StepContext
from trainer.training import Training
from trainer.world import World


def build(run: RunConfig, lake: Lake, fold: str) -> tuple[Training, feed.TrainingData]:
    """A training with seeded weights."""
    spec = feed.spec_of(run)
    data = feed.prepare(run, spec, lake, fold)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return begin(run, spec.build(run.system, data.info), World.alone()), data


def bare_steps(training: Training, batches: list[FaceBatch]) -> Iterator[None]:
    """The same turns with plain optimisers."""
    stage = training.stages[0]
    optimizers = {
        name: _optimizer(trained_parameters(player, "*"), player.optimizer)
        for name, player in training.players.items()
    }
    weights = {name: value_at(w, 0.0) for name, w in weights_of(training.run).items()}
    wanted = frozenset(name for name, value in weights.items() if value > 0)
    for player in training.players.values():
        player.module.train()
    for step, batch in enumerate(cycle(batches)):
        progress = replace(training.progress, step=step)
        context = StepContext(batch=batch, progress=progress, wanted=wanted)
        if stage.prepare is not None:
            for name, player in training.players.items():
                player.module.requires_grad_(name == stage.prepares_for)
            with torch.set_grad_enabled(stage.prepares_for is not None):
                context = replace(context, shared=stage.prepare(context))
        for group in stage.groups():
            for turn in group:
                due = wanted.intersection(turn.terms)
                if not due or step % turn.every:
                    continue
                for name, player in training.players.items():
                    player.module.requires_grad_(name == turn.player)
                for repeat in range(turn.repeats):
                    own = replace(context, wanted=due, turn=turn.player, repeat=repeat)
                    found = turn.loss(own)
                    loss = sum(weights[name] * _scalar(term) for name, term in found.items())
                    optimizers[turn.player].zero_grad(set_to_none=True)
                    loss.backward()
                    optimizers[turn.player].step()
        yield


def _scalar(term: torch.Tensor | Mean) -> torch.Tensor:
    return term.sum / term.count.clamp(min=1) if isinstance(term, Mean) else term


def timed(steps: Iterator[object], count: int) -> float:
    """Seconds of the next `count` steps."""
    started = time.perf_counter()
    for _ in islice(steps, count):
        pass
    return time.perf_counter() - started


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--recipe", default="fersnet.small")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train_step.json"))
    arguments = parser.parse_args()
    keep_freed_blocks()
    lake = Lake.open(arguments.lake)
    run = catalog.recipe(arguments.recipe)
    ends = {
        f"system.weights.{name}": weight.end
        for name, weight in weights_of(run).items()
        if isinstance(weight, Ramp)
    }
    run = with_overrides(run, {"data.stream": "local", **ends})
    house, data = build(run, lake, "1/5")
    bare, _ = build(run, lake, "1/5")
    with feed.open_batches(data, lake, None, house, None) as stream:
        ready = list(islice(stream, 16))
    with feed.open_batches(data, lake, None, house, None) as stream:
        both = {"house": fit(house, stream), "bare": bare_steps(bare, ready)}
        for steps in both.values():
            timed(steps, 4)
        seconds: dict[str, list[float]] = {"house": [], "bare": []}
        for block in range(arguments.blocks):
            for name in ("house", "bare") if block % 2 else ("bare", "house"):
                seconds[name].append(timed(both[name], arguments.steps))
    ratios = np.array(seconds["house"]) / np.array(seconds["bare"])
    result = {
        "recipe": arguments.recipe,
        "threads": torch.get_num_threads(),
        "blocks": arguments.blocks,
        "steps_per_block": arguments.steps,
        "batch_images": run.data.global_batch_images,
        "bare_ms_per_step": float(np.median(seconds["bare"]) / arguments.steps * 1000),
        "house_ms_per_step": float(np.median(seconds["house"]) / arguments.steps * 1000),
        "median_ratio": float(np.median(ratios)),
        "quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        "environment": environment(),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

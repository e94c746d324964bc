"""Would several trials as lanes of one pass (torch.func.vmap) be faster than one after another?

Method. So many lanes of `baseline.tiny` that differ in their first weights take the same batches,
as trials of one seed do. One after another: the steps of the project's own loop. Fused: the same
loss, called by `functional_call` under `vmap` over stacked parameters, and one fused Adam over the
stacks; without checks, averages and records, so the figure is the most that such an engine could
give. Widths and sizes from the recipe down to a toy. Blocks of steps alternate; median of the
blocks. In float64 the two stay within 1e-9 over the first steps, which is checked as well.

    python -m benchmarks.lanes LAKE [--lanes 4 8]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.photos import environment
from data_service.lakes.lake import Lake
from trainer import catalog, feed
from trainer.config import RunConfig
from trainer.loop import begin, fit
from trainer.nets.norm import set_statistics_updates
from trainer.overrides import with_overrides
from trainer.system import FaceBatch, Mean, Progress, StepContext
from trainer.training import Training
from trainer.world import World

SIZES: Mapping[str, Mapping[str, Any]] = {
    "recipe": {},
    "half width": {"system.network.width": 0.25},
    "quarter width, 24 px, batches of 8": {
        "system.network.width": 0.125,
        "data.image_size": 24,
        "data.global_batch_images": 8,
    },
}
STEPS, BLOCKS, EQUAL_STEPS = 4, 8, 20


class Loss(nn.Module):
    """The one turn of a baseline as a module, so that its parameters can be given to it."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        (self.player,) = (player.module for player in training.players.values())
        ((self._turn,),) = training.stages[0].groups()

    def forward(self, batch: FaceBatch) -> Tensor:
        """The turn's only term."""
        context = StepContext(batch=batch, progress=Progress(), wanted=frozenset(self._turn.terms))
        (term,) = self._turn.loss(context).values()
        return term.sum / term.count.clamp(min=1) if isinstance(term, Mean) else term


def trainings(run: RunConfig, data: feed.TrainingData, lanes: int) -> list[Training]:
    """As many as there are lanes, with different weights."""
    found = []
    for lane in range(lanes):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(lane)
            found.append(begin(run, feed.spec_of(run).build(run.system, data.info), World.alone()))
    return found


def one_after_another(lanes: list[Training], batches: list[FaceBatch]) -> Callable[[], None]:
    """A step of every lane by the project's loop."""
    steps = [fit(training, cycle(batches)) for training in lanes]

    def step() -> None:
        for lane in steps:
            next(lane)

    return step


def fused(
    lanes: list[Training], batches: list[FaceBatch]
) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """A step of every lane in one pass; the stacked parameters that it moves."""
    losses = [Loss(training) for training in lanes]
    for training in lanes:
        for name, player in training.players.items():
            player.module.train().requires_grad_(True)
            set_statistics_updates(training.norms[name], False)
    parameters, buffers = stack_module_state(losses)  # pyright: ignore[reportArgumentType]
    parameters = {key: value.detach().requires_grad_() for key, value in parameters.items()}
    config = next(iter(lanes[0].players.values())).optimizer
    rate = config.rate(0.0)
    optimizer = torch.optim.Adam(
        parameters.values(), lr=rate, betas=config.betas, fused=True, weight_decay=0.0
    )
    source = cycle(batches)

    def step() -> None:
        batch = next(source)
        whole = vmap(lambda own, kept: functional_call(losses[0], (own, kept), (batch,)))
        optimizer.zero_grad(set_to_none=True)
        whole(parameters, buffers).sum().backward()
        optimizer.step()

    return step, parameters


def timed(step: Callable[[], None]) -> float:
    """Milliseconds of a step of all lanes."""
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - started) / STEPS * 1000


def compared(run: RunConfig, lake: Lake, lanes: int) -> dict[str, float]:
    """Both ways in alternating blocks."""
    data = feed.prepare(run, feed.spec_of(run), lake, "1/5")
    batches = batches_of(run, data, lake)
    ways = {
        "apart": one_after_another(trainings(run, data, lanes), batches),
        "fused": fused(trainings(run, data, lanes), batches)[0],
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        timed(step)
    for block in range(BLOCKS):
        for name in ways if block % 2 else reversed(ways):
            found[name].append(timed(ways[name]))
    apart, together = (float(np.median(found[name])) for name in ("apart", "fused"))
    return {
        "apart_ms": round(apart, 2),
        "fused_ms": round(together, 2),
        "gain": round(apart / together, 2),
    }


def batches_of(run: RunConfig, data: feed.TrainingData, lake: Lake) -> list[FaceBatch]:
    """The first batches of the run's plan."""
    (training,) = trainings(run, data, 1)
    with feed.open_batches(data, lake, None, training, None) as stream:
        return [next(stream) for _ in range(8)]


def furthest(run: RunConfig, lake: Lake, lanes: int) -> float:
    """How far the weights of the two ways are apart in float64 after the first steps."""
    data = feed.prepare(run, feed.spec_of(run), lake, "1/5")
    batches = [
        one.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
        for one in batches_of(run, data, lake)
    ]
    apart, together = (trainings(run, data, lanes) for _ in range(2))
    for training in (*apart, *together):
        for player in training.players.values():
            player.module.double()
    first = one_after_another(apart, batches)
    second, parameters = fused(together, batches)
    for _ in range(EQUAL_STEPS):
        first()
        second()
    gaps = [
        float((value[lane] - dict(Loss(training).named_parameters())[name]).detach().abs().max())
        for lane, training in enumerate(apart)
        for name, value in parameters.items()
    ]
    return max(gaps)


def main() -> None:
    """Measure every size with every number of lanes, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--lanes", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lanes.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    lake = Lake.open(given.lake)
    plain = {
        "data.stream": "local",
        "system.optimizer.learning_rate": 1e-3,
        "system.optimizer.weight_decay": 0.0,
        "system.network.conv_dropout": 0.0,
        "system.network.dropout": 0.0,
    }
    run = with_overrides(catalog.recipe("baseline.tiny"), plain)
    rows = {
        size: {
            f"{lanes} lanes": compared(with_overrides(run, dict(changes)), lake, lanes)
            for lanes in given.lanes
        }
        for size, changes in SIZES.items()
    }
    smallest = with_overrides(run, dict(list(SIZES.values())[-1]))
    result = {
        "threads": 1,
        "sizes": rows,
        "float64_gap_after_20_steps": furthest(smallest, lake, 3),
        "environment": environment(),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

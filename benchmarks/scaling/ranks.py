"""Training on processes of this machine, and how much of it is communication."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.scaling.processes import IMAGES_PER_WORKER, go, on_ranks, training

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "reduce",
    "reduce_scatter_tensor",
    "broadcast",
)


class Meter:
    """Times what torch.distributed's collectives take, where they are called by name.

    With `split` every rank waits for all others before each one: `waiting` is that wait, `seconds`
    what is left. Without, `seconds` has both.
    """

    def __init__(self, *, split: bool) -> None:
        self.split = split
        self.barrier = dist.barrier
        self.clear()
        for name in COLLECTIVES:
            setattr(dist, name, self._timed(getattr(dist, name)))

    def clear(self) -> None:
        """Begin anew."""
        self.seconds = self.waiting = 0.0
        self.calls = self.num_bytes = 0

    def _timed(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **options: Any) -> Any:
            began = time.perf_counter()
            if self.split:
                self.barrier()
            ready = time.perf_counter()
            result = collective(*given, **options)
            if result is not None:
                result.wait()
            self.waiting += ready - began
            self.seconds += time.perf_counter() - ready
            self.calls += 1
            tensors = [one for one in (*given, *options.values()) if isinstance(one, torch.Tensor)]
            self.num_bytes += max(one.numel() * one.element_size() for one in tensors)
            return result

        return timed


def measure(lake: Path, recipe: str, workers: int, steps: int) -> dict[str, Any]:
    """Steps per second of `workers` processes, and per step of rank 0: communication."""
    return on_ranks(workers, 1, _measured, lake, recipe, steps)


def _measured(workers: int, lake: Path, recipe: str, steps: int) -> dict[str, Any]:
    """Train, and train again with waiting told apart."""
    meter = Meter(split=False)
    with training(lake, recipe, {}) as (_, moving):
        meter.clear()
        seconds = go(moving, steps)
        told = {
            "workers": workers,
            "recipe": recipe,
            "steps_per_second": steps / seconds,
            "images_per_second": steps * IMAGES_PER_WORKER * workers / seconds,
            "communication_share": meter.seconds / seconds,
            "collectives_per_step": meter.calls / steps,
            "megabytes_per_step": meter.num_bytes / steps / 1e6,
        }
        meter.split = True
        meter.clear()
        go(moving, steps)
        return told | {
            "transfer_milliseconds_per_step": 1e3 * meter.seconds / steps,
            "waiting_milliseconds_per_step": 1e3 * meter.waiting / steps,
        }

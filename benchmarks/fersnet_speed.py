"""FERSNet in the authors' form: a training step of `fersnet.paper` and one of a plain peer.

Method. Same widths, batch (8 faces of 96 px), terms, number of critic turns and identity network.
The house trains by its own loop, stream, checks and all, from a lake of drawn faces, its maps
channels last as the recipe says, but for what `trainer.layout` leaves; the peer
(`benchmarks.fersnet_peer`) takes batches that lie in memory, its maps in torch's default order.
Each has a process of its own, on all cores; one waits while the other steps. Steps alternate, and
the order of each pair alternates too. Figures are medians, the ratio that of the pairs.

By operations alone 1.15 would be had: the peer draws its edited faces twice a step, the house once.
The rest is what surrounds the convolutions, and how they are asked for.

    mien ingest drawn --lake LAKE --size 112 --option subjects=24 --option faces_per_subject=16
    python -m benchmarks.fersnet_speed LAKE
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fersnet_peer import CLASSES, Peer
from benchmarks.photos import environment
from benchmarks.train_step import build
from cluster.memory import keep_freed_blocks
from data_service.lakes.lake import Lake
from trainer import catalog, feed
from trainer.config import RunConfig
from trainer.loop import fit
from trainer.overrides import with_overrides

FIXED = {
    "data.stream": "local",
    "data.classes": "anger,contempt,disgust,fear,happiness,sadness,surprise",
    "system.identity_network": "random",
}


def peer_steps(run: RunConfig, lake: Lake) -> Iterator[int]:
    """The peer over four batches, again and again; its parameters."""
    house, data = build(run, lake, "1/3")
    with feed.open_batches(data, lake, None, house, None) as stream:
        batches = list(islice(stream, 4))
    del house
    torch.manual_seed(0)
    peer = Peer()
    count = sum(one.numel() for one in peer.net.parameters())
    for batch in cycle(batches):
        faces = (batch.faces_BCHW, batch.partners["same_subject"])
        face, partner = (0.5 * part + 0.5 for part in faces)
        peer.step(face, batch.expression_B, partner, batch.target_expression_B)
        yield count


def house_steps(run: RunConfig, lake: Lake) -> Iterator[int]:
    """The house's own steps; the network's parameters."""
    keep_freed_blocks()
    house, data = build(run, lake, "1/3")
    assert len(data.classes) == CLASSES
    count = sum(one.numel() for one in house.players["network"].module.parameters())
    with feed.open_batches(data, lake, None, house, None) as stream:
        for _ in fit(house, stream):
            yield count


def serve(steps: Iterator[int]) -> None:
    """For every line that comes in, one step: its seconds, and the parameters."""
    for _ in sys.stdin:
        started = time.perf_counter()
        count = next(steps)
        print(time.perf_counter() - started, count, flush=True)


class Side:
    """A process that steps when it is asked to."""

    def __init__(self, name: str, lake: Path, settings: list[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.fersnet_speed", str(lake), "--side", name]
        command += ["--set", *settings]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seconds: list[float] = []
        self.parameters = 0

    def step(self) -> None:
        """One step; it is waited for."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        seconds, count = self.process.stdout.readline().split()
        self.seconds.append(float(seconds))
        self.parameters = int(count)

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compared(arguments: argparse.Namespace, run: RunConfig) -> dict[str, Any]:
    """Steps of both by turns; the first pair warms up."""
    both = {name: Side(name, arguments.lake, arguments.settings) for name in ("house", "peer")}
    for index in range(arguments.pairs + 1):
        for name in ("house", "peer") if index % 2 else ("peer", "house"):
            both[name].step()
    for side in both.values():
        side.close()
    seconds = {name: np.array(side.seconds[1:]) for name, side in both.items()}
    ratios = seconds["peer"] / seconds["house"]
    images = run.data.global_batch_images
    rates = {name: round(images / float(np.median(one)), 3) for name, one in seconds.items()}
    return {
        "batch_images": images,
        "pairs": arguments.pairs,
        "images_per_second": rates,
        "times_the_peer": round(float(np.median(ratios)), 3),
        "quartiles": np.quantile(ratios, [0.25, 0.75]).round(3).tolist(),
        "parameters": {name: side.parameters for name, side in both.items()},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lake", type=Path)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fersnet_speed.json"))
    parser.add_argument("--side", choices=("house", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = FIXED | dict(text.split("=", 1) for text in arguments.settings)
    run = with_overrides(catalog.recipe("fersnet.paper"), settings)
    if arguments.side:
        steps = {"house": house_steps, "peer": peer_steps}[arguments.side]
        serve(steps(run, Lake.open(arguments.lake)))
        return
    result = {"recipe": "fersnet.paper", "settings": settings, **compared(arguments, run)}
    result |= {"threads": torch.get_num_threads(), "environment": environment()}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

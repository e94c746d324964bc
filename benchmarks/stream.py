"""How fast batches come, beside what else feeds a network, and how long the first one takes.

Method. Drawn faces (side 48, 96, 128 or 224 px) lie in a lake and, the same faces, as JPEG files of
quality 95, also in tar shards. Every way delivers batches of 64 crops (7/8 of the side) cut out and
mirrored at random, on the CPU: `local` and `ray` are the stream by a thread and by a Ray Data
execution, `jpeg`, `webdataset`, `mapped` and `copy` as `benchmarks/peers.py` tells. Files are in
memory, every process has one thread, Ray runs already. Of `ray` a Ray worker takes the batches, as
a training does; its end frees what Ray keeps of a stream that is closed (in a process that opens
one after the other a store of 400 MB overflows onto the disk). Each way is opened anew in every
round, gives 30 batches unmeasured, and is then measured for some seconds; the ways alternate, one
round of all after the other. Figures are medians over the rounds, ratios the medians of the rounds'
ratios.

`sizes`: each side; one actor of `ray`, two workers of each loader. `actors`: 128 px; one, two, four
Ray workers at once, each with its own execution and actor, rates added, beside as many loader
workers. `light` and `cover`: 128 px; brightness and contrast vary by 0.2, or half of the faces are
covered in part; batches are floats then, ours made by `to_batch`, theirs face by face in the
workers. `first`: seconds from the call that opens lake, plan and stream to the first batch as float
tensors: in this process by the thread; and in two Ray workers at once that hold both CPUs, the
slower of the two, `import ray.data` and the start of the processes that build batches included: in
a Ray that has not seen Ray Data yet (`cold`), and again in new workers.

    python -m benchmarks.stream PART... [--rounds 3] [--seconds 2] [--out FILE]

webdataset is left out where it is not installed (`pip install webdataset`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import ray
import torch

from benchmarks import peers
from benchmarks.peers import BATCH, Look
from benchmarks.photos import environment
from cluster.session import connect
from data_service.crops import AugmentConfig
from data_service.folds import make_folds
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.planning.plan import Plan, StagePlan
from data_service.schema import Expression
from data_service.streaming.batches import to_batch
from data_service.streaming.source import FaceSource
from data_service.streaming.stream import open_stream

SIDES, SIDE = (48, 96, 128, 224), 128
ACTORS = (1, 2, 4)
LAKE_BYTES = 200 << 20
WARM_UP = 30
PLAIN = {"crop_shift_pixels": 99, "flip": 0.5}
LIGHT = AugmentConfig(**PLAIN, brightness=0.2, contrast=0.2)
COVER = AugmentConfig(**PLAIN, erase=0.5)
Kind = Literal["local", "ray"]
Way = Callable[[], Generator[int]]
Rates = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Faces of one side, in a lake, as files and in shards."""

    side: int
    lake: Path
    files: list[str]
    shards: list[str]

    def look(self, augment: AugmentConfig) -> Look:
        """Crops of 7/8 of the side."""
        return Look(side=self.side * 7 // 8, augment=augment)


@contextmanager
def prepared(side: int) -> Iterator[Corpus]:
    """A corpus of as many faces as make a lake of that many bytes, 8,000 at most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jpeg").mkdir()
        os.environ["MIEN_CACHE"] = str(folder / "cache")
        subjects = min(8000, LAKE_BYTES // (side * side * 3)) // 20
        options = {"subjects": subjects, "faces_per_subject": 20}
        ingest("drawn", None, folder / "lake", image_size=side, options=options)
        files = peers.as_jpeg(Lake.open(folder / "lake").faces, folder / "jpeg")
        shards = peers.write_shards(files, folder)
        yield Corpus(side=side, lake=folder / "lake", files=files, shards=shards)


def source_of(lake: Path, look: Look) -> FaceSource:
    """The stream's source: one long stage over a fold of the lake."""
    opened = Lake.open(lake)
    fold = make_folds(opened.table, 5)[0]
    plan = Plan(opened.table, fold, tuple(Expression), [StagePlan(images=10**7)], BATCH, 0)
    return FaceSource(lake=lake, plan=plan, side=look.side, augment=look.augment)


def streamed(lake: Path, look: Look, kind: Kind, rank: int = 0, world: int = 1) -> Generator[int]:
    """Faces of each batch that the stream delivers."""
    source = source_of(lake, look)
    stop = source.plan.num_steps
    with open_stream(source, start=0, stop=stop, rank=rank, world=world, kind=kind) as stream:
        for packed in stream:
            if look.floats:
                yield len(to_batch(packed, "cpu", look.augment).faces_BCHW)
            else:
                yield len(packed.arrays()["view/augmented"])


def other_ways(corpus: Corpus, look: Look, workers: int) -> dict[str, Way]:
    """The peers that are there."""
    faces_NHWC = Lake.open(corpus.lake).faces
    ways: dict[str, Way] = {
        "jpeg": lambda: peers.loaded(peers.JpegFaces(corpus.files, look), workers),
        "mapped": lambda: peers.loaded(peers.MappedFaces(faces_NHWC, look), workers),
    }
    if importlib.util.find_spec("webdataset"):
        ways["webdataset"] = lambda: peers.from_shards(corpus.shards, look, workers)
    return ways


def rate(batches: Generator[int], seconds: float) -> float:
    """Faces per second after the warm-up."""
    for _ in range(WARM_UP):
        next(batches)
    images, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        images += next(batches)
    batches.close()
    return images / spent


def alternating(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """Medians of the rates, and ours to theirs, round by round."""
    found: Rates = {}
    for index in range(rounds):
        for name, way in ways.items():
            found.setdefault(name, []).append(way())
            print(f"round {index}: {name} {found[name][-1]:.0f} images/s", file=sys.stderr)
    ours = [name for name in found if name in ("local", "ray")]
    ratios = {
        f"{own}_to_{peer}": round(
            median(a / b for a, b in zip(found[own], found[peer], strict=True)), 2
        )
        for own in ours
        for peer in found
        if peer not in ours
    }
    return {
        "images_per_second": {name: round(median(values)) for name, values in found.items()},
        "ratios": ratios,
        "by_round": {name: [round(value) for value in values] for name, values in found.items()},
    }


def measured(corpus: Corpus, augment: AugmentConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """All ways, with one actor of the stream and two workers of each loader."""
    look = corpus.look(augment)
    ways: dict[str, Way] = {
        "local": lambda: streamed(corpus.lake, look, "local"),
        **other_ways(corpus, look, 2),
    }
    if not look.floats:
        ways["copy"] = lambda: peers.copied(Lake.open(corpus.lake).faces, look)
    timed: dict[str, Callable[[], float]] = {
        name: (lambda way=way: rate(way(), seconds)) for name, way in ways.items()
    }
    timed["ray"] = lambda: _together(corpus.lake, look, 1, seconds)
    return alternating(timed, rounds)


def measure_sizes(rounds: int, seconds: float) -> dict[str, Any]:
    """All ways at each size."""
    found = {}
    for side in SIDES:
        with prepared(side) as corpus:
            found[str(side)] = measured(corpus, AugmentConfig(**PLAIN), rounds, seconds)
    return found


def measure_augmented(augment: AugmentConfig) -> Callable[[int, float], dict[str, Any]]:
    """All ways at one size, with light or cover."""

    def measure(rounds: int, seconds: float) -> dict[str, Any]:
        with prepared(SIDE) as corpus:
            return measured(corpus, augment, rounds, seconds)

    return measure


def measure_actors(rounds: int, seconds: float) -> dict[str, Any]:
    """The stream in several workers at once, beside loaders of as many workers."""
    found = {}
    with prepared(SIDE) as corpus:
        look = corpus.look(AugmentConfig(**PLAIN))
        for count in ACTORS:
            ways = {
                "ray": lambda count=count: _together(corpus.lake, look, count, seconds),
                **{
                    name: (lambda way=way: rate(way(), seconds))
                    for name, way in other_ways(corpus, look, count).items()
                },
            }
            found[str(count)] = alternating(ways, rounds)
    return found


def _together(lake: Path, look: Look, world: int, seconds: float) -> float:
    """The rates of so many Ray workers, added; each takes its part of every batch."""

    @ray.remote(num_cpus=2 / max(ACTORS), max_calls=1)
    def worker(rank: int) -> float:
        torch.set_num_threads(1)
        return rate(streamed(lake, look, "ray", rank, world), seconds)

    return sum(ray.get([worker.remote(rank) for rank in range(world)]))


def first_batch(lake: Path, look: Look, kind: Kind, rank: int = 0, world: int = 1) -> float:
    """Seconds from the call to a batch of floats."""
    started = time.perf_counter()
    source = source_of(lake, look)
    with open_stream(source, start=0, stop=1000, rank=rank, world=world, kind=kind) as stream:
        to_batch(next(stream), "cpu", look.augment)
        return time.perf_counter() - started


def first_in_two_workers(lake: Path, look: Look) -> float:
    """The slower of two new Ray workers that hold a CPU each."""

    @ray.remote(num_cpus=1, max_calls=1)
    def worker(rank: int) -> float:
        torch.set_num_threads(1)
        return first_batch(lake, look, "ray", rank, 2)

    return max(ray.get([worker.remote(rank) for rank in range(2)]))


def measure_first(_rounds: int, _seconds: float) -> dict[str, Any]:
    """Seconds to the first batch."""
    with prepared(SIDE) as corpus:
        lake, look = corpus.lake, corpus.look(AugmentConfig(**PLAIN))
        cold = first_in_two_workers(lake, look)
        return {
            "two_workers_cold": round(cold, 2),
            "two_workers": [round(first_in_two_workers(lake, look), 2) for _ in range(3)],
            "in_process": [round(first_batch(lake, look, "local"), 2) for _ in range(3)],
        }


PARTS = {
    "first": measure_first,
    "sizes": measure_sizes,
    "actors": measure_actors,
    "light": measure_augmented(LIGHT),
    "cover": measure_augmented(COVER),
}


def main(arguments: list[str]) -> None:
    """Measures some parts and puts them into the result, beside the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    peers.one_thread(0)
    kept = options.out and options.out.is_file()
    result = json.loads(options.out.read_text()) if kept else {}
    result["method"] = " ".join(__doc__.split("Method. ")[1].split("\n    python")[0].split())
    for part in options.parts:
        load = os.getloadavg()[0]
        with connect(num_cpus=2):
            found = PARTS[part](options.rounds, options.seconds)
        versions = {name: version(name) for name in ("ray", "numpy", "pyarrow")}
        about = {"rounds": options.rounds, "seconds": options.seconds, "load_before": load}
        result[part] = found | {"about": about | environment() | versions}
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])

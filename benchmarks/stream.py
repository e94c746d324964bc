"""How fast batches come, against torch DataLoaders, and how long the first one takes.

Method. Drawn faces of 128 px lie in a lake and, the same faces, as JPEG files of quality 95. Every
way delivers batches of 64 faces as uint8 tensors on the CPU, cut to 112 px at random and mirrored
at random: `local` and `ray` are the stream by a thread and by a Ray Data execution; `jpeg` is a
torch DataLoader with two workers that decodes the files with OpenCV; `mapped` is a DataLoader with
two workers over the same memory-mapped faces as the stream. Files are in the page cache, every
process has one thread, Ray runs already. Each way is opened anew in every round, gives 30 batches
unmeasured, and is then measured for some seconds; the ways alternate, one round of all after the
other. Figures are medians over the rounds, ratios the medians of the rounds' ratios. First batch:
seconds from the call that opens lake, plan and stream to the first batch as float tensors: in this
process by the thread; and in two Ray workers at once that hold both CPUs, each with its own
execution, the slower of the two, `import ray.data` and the start of the processes that build
batches included: in a Ray that has not seen Ray Data yet (`cold`), and again in new workers.

    python -m benchmarks.stream [--faces 4000] [--rounds 5] [--seconds 4] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Literal

import cv2
import numpy as np
import ray
import torch
from torch.utils.data import DataLoader, Dataset

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

FACE, CROP, BATCH, WARM_UP = 128, 112, 64, 30
AUGMENT = AugmentConfig(crop_shift_pixels=8, flip=0.5)
Counted = Generator[int]
Kind = Literal["local", "ray"]


def source_of(path: Path) -> FaceSource:
    """The stream's source: one long stage over a fold of the lake."""
    lake = Lake.open(path)
    fold = make_folds(lake.table, 5)[0]
    plan = Plan(lake.table, fold, tuple(Expression), [StagePlan(images=10**7)], BATCH, 0)
    return FaceSource(lake=path, plan=plan, side=CROP, augment=AUGMENT)


class Faces(Dataset):
    """What one writes for a DataLoader: read a face, cut it, mirror it."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def face(self, index: int) -> np.ndarray:
        """The whole face."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> torch.Tensor:
        top, left = torch.randint(FACE - CROP + 1, (2,)).tolist()
        cut = self.face(index)[top : top + CROP, left : left + CROP]
        if torch.rand(()) < 0.5:
            cut = cut[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(cut))


class JpegFaces(Faces):
    """Faces from files."""

    def __init__(self, files: list[str]) -> None:
        super().__init__(len(files))
        self._files = files

    def face(self, index: int) -> np.ndarray:
        """Decoded."""
        return np.asarray(cv2.imread(self._files[index], cv2.IMREAD_COLOR_RGB))


class MappedFaces(Faces):
    """Faces from the lake's mapped file."""

    def __init__(self, faces_NHWC: np.ndarray) -> None:
        super().__init__(len(faces_NHWC))
        self._faces_NHWC = faces_NHWC

    def face(self, index: int) -> np.ndarray:
        """A view of the map."""
        return self._faces_NHWC[index]


def one_thread(_worker: int) -> None:
    """Every worker of a DataLoader computes with one thread."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def loaded(dataset: Faces) -> Counted:
    """Images of each batch that a DataLoader delivers, epoch after epoch."""
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=2,
        drop_last=True,
        persistent_workers=True,
        worker_init_fn=one_thread,
    )
    while True:
        for faces_BHWC in loader:
            yield len(faces_BHWC)


def streamed(source: FaceSource, kind: Kind) -> Counted:
    """Images of each batch that the stream delivers."""
    with open_stream(source, start=0, stop=source.plan.num_steps, kind=kind) as stream:
        for packed in stream:
            yield len(packed.arrays()["view/augmented"])


def images_per_second(batches: Counted, seconds: float) -> float:
    """Throughput after the warm-up."""
    for _ in range(WARM_UP):
        next(batches)
    images, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        images += next(batches)
    batches.close()
    return images / spent


def first_batch(path: Path, kind: Kind, rank: int = 0, world: int = 1) -> float:
    """Seconds from the call to a batch of floats."""
    started = time.perf_counter()
    source = source_of(path)
    with open_stream(source, start=0, stop=1000, rank=rank, world=world, kind=kind) as stream:
        to_batch(next(stream), "cpu", AUGMENT)
        return time.perf_counter() - started


def first_in_two_workers(path: Path) -> float:
    """The slower of two new Ray workers that hold a CPU each."""

    @ray.remote(num_cpus=1, max_calls=1)
    def worker(rank: int) -> float:
        torch.set_num_threads(1)
        return first_batch(path, "ray", rank, 2)

    return max(ray.get([worker.remote(rank) for rank in range(2)]))


@contextmanager
def prepared(num_faces: int) -> Iterator[tuple[Path, list[str]]]:
    """A lake of drawn faces, and the same faces as JPEG files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MIEN_CACHE"] = str(folder / "cache")
        options = {"subjects": num_faces // 20, "faces_per_subject": 20}
        ingest("drawn", None, folder / "lake", image_size=FACE, options=options)
        files = []
        for row, face_HWC in enumerate(Lake.open(folder / "lake").faces):
            files.append(str(folder / f"{row:06d}.jpg"))
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
            cv2.imwrite(files[-1], cv2.cvtColor(face_HWC, cv2.COLOR_RGB2BGR), quality)
        yield folder / "lake", files


def measured(lake: Path, files: list[str], rounds: int, seconds: float) -> dict:
    """Images per second of every way, by round."""
    source, faces_NHWC = source_of(lake), Lake.open(lake).faces
    ways = {
        "local": lambda: streamed(source, "local"),
        "ray": lambda: streamed(source, "ray"),
        "jpeg": lambda: loaded(JpegFaces(files)),
        "mapped": lambda: loaded(MappedFaces(faces_NHWC)),
    }
    found: dict[str, list[float]] = {}
    for index in range(rounds):
        for name, way in ways.items():
            found.setdefault(name, []).append(images_per_second(way(), seconds))
            print(f"round {index}: {name} {found[name][-1]:.0f} images/s", file=sys.stderr)
    return found


def summary(found: dict[str, list[float]]) -> dict:
    """Medians, and the stream's ratios to its peers round by round."""
    ratios = {
        f"{ours}_to_{peer}": round(
            median(a / b for a, b in zip(found[ours], found[peer], strict=True)), 2
        )
        for ours in ("local", "ray")
        for peer in ("jpeg", "mapped")
    }
    return {
        "images_per_second": {name: round(median(values)) for name, values in found.items()},
        "ratios": ratios,
        "by_round": {name: [round(value) for value in values] for name, values in found.items()},
    }


def hardware() -> dict:
    """Processor, its load before the first round, and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    versions = {name: version(name) for name in ("ray", "torch", "numpy", "pyarrow")}
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        **versions,
    }


def main(arguments: list[str]) -> None:
    """Runs the benchmark and writes or prints its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    one_thread(0)
    machine = hardware()
    with ExitStack() as stack:
        lake, files = stack.enter_context(prepared(options.faces))
        stack.enter_context(connect(num_cpus=2))
        cold = first_in_two_workers(lake)
        firsts = {
            "two_workers_cold": round(cold, 2),
            "two_workers": [round(first_in_two_workers(lake), 2) for _ in range(3)],
            "in_process": [round(first_batch(lake, "local"), 2) for _ in range(3)],
        }
        print(f"first batch: {firsts}", file=sys.stderr)
        found = measured(lake, files, options.rounds, options.seconds)
    result = {
        "method": " ".join(__doc__.split("Method. ")[1].split("\n\n")[0].split()),
        "command": f"python -m benchmarks.stream --faces {options.faces} "
        f"--rounds {options.rounds} --seconds {options.seconds}",
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "hardware": machine,
        "first_batch_seconds": firsts,
        **summary(found),
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])

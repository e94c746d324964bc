"""How fast a folder of photographs becomes aligned faces on disk, against a plain Python loop.

Method. The photographs of a source are copied several times into a fresh folder, with their
labels. Each way decodes every file, finds the face with the same MTCNN nets through onnxruntime,
places it at 128 px and leaves the result on disk. `ray`: `ingest` on a Ray that runs already, one
process for each core, writing a lake and its audit. `loop_one_thread`: a plain loop over the
files with one onnxruntime thread, its crops saved with numpy.save. `loop_default_threads`: the
same with as many threads as onnxruntime chooses. Imports and the start of Ray and its
processes, which then have the nets, are outside (one ingest of the source goes before); the loops
load the nets, in less than a tenth of a second. The ways alternate, one round of
all after the other; each figure is the median over the rounds, each ratio the median of the
rounds' ratios.

    python -m benchmarks.ingest SOURCE [--copies 6] [--rounds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from cluster.session import connect
from data_service.alignment.align import Aligner
from data_service.alignment.decode import decode
from data_service.ingest import ingest

IMAGE_SIZE = 128


def copied(source: Path, copies: int, folder: Path) -> Path:
    """A photos corpus that holds each photograph of `source` `copies` times."""
    with open(source / "labels.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    with open(folder / "labels.csv", "w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file", "subject", "expression"])
        for copy in range(copies):
            for row in rows:
                name = f"{copy}/{row['file']}"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / row["file"], folder / name)
                writer.writerow([name, row["subject"], row["expression"]])
    return folder


def plain_loop(source: Path, out: Path, *, threads: int) -> int:
    """What one writes without this project: file by file, all crops in one array."""
    aligner = Aligner(threads=threads)
    crops = []
    with open(source / "labels.csv", newline="") as table:
        for row in csv.DictReader(table):
            picture = decode((source / row["file"]).read_bytes())
            crops.append(aligner.place(picture, side=IMAGE_SIZE).image_SS3)
    np.save(out, np.stack(crops))
    return len(crops)


def ways(source: Path, folder: Path) -> dict[str, Callable[[], int]]:
    """Every way to do the job in a fresh folder, each giving the number of faces."""
    return {
        "ray": lambda: ingest("photos", source, folder / "ray", image_size=IMAGE_SIZE).faces,
        "loop_one_thread": lambda: plain_loop(source, folder / "one.npy", threads=1),
        "loop_default_threads": lambda: plain_loop(source, folder / "all.npy", threads=0),
    }


def timed(source: Path, warm_up: Path, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Number of faces, and seconds of each way by round; `warm_up` is ingested before."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ingest("photos", warm_up, Path(folder) / "first", image_size=IMAGE_SIZE)
        for round_index in range(rounds):
            fresh = Path(folder) / str(round_index)  # a lake that is there has its audit already
            fresh.mkdir()
            for name, way in ways(source, fresh).items():
                started = time.perf_counter()
                faces = way()
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                print(f"round {round_index}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    return faces, seconds


def hardware() -> dict:
    """Processor, its load before the first round, and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    versions = {name: version(name) for name in ("ray", "onnxruntime", "numpy", "pyarrow")}
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
    parser.add_argument("source", type=Path)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    machine = hardware()
    with tempfile.TemporaryDirectory() as folder, connect():
        source = copied(options.source, options.copies, Path(folder))
        faces, seconds = timed(source, options.source, options.rounds)
    pairs = {name: zip(times, seconds["ray"], strict=True) for name, times in seconds.items()}
    result = {
        "method": " ".join(__doc__.split("Method. ")[1].split("\n\n")[0].split()),
        "command": f"python -m benchmarks.ingest SOURCE --copies {options.copies} "
        f"--rounds {options.rounds}",
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "hardware": machine,
        "faces": faces,
        "seconds": {name: [round(one, 2) for one in times] for name, times in seconds.items()},
        "faces_per_second": {
            name: round(faces / median(times), 1) for name, times in seconds.items()
        },
        "ray_times_as_fast_as": {
            name: round(median(theirs / ours for theirs, ours in pair), 2)
            for name, pair in pairs.items()
            if name != "ray"
        },
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])

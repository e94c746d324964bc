"""What it costs that a lake is larger than memory.

Method. Two lakes of drawn faces of 96 px (4,000 drawn, the others the same moved, mirrored and lit
otherwise): a large one, and its first twentieth, which fits. A reader in a control group whose
memory limit is well below the large lake's pixels (files in memory count; without a limit memory
has room for all) takes batches of 64 faces, cut to 84 px at random and mirrored at random, as uint8
on the CPU, and does nothing with them: from the stream by a thread (`local`) and by a Ray Data
execution (`ray`, whose whole Ray lies in the group too), which shows the training faces of a fold
(seven in ten), shuffled within a window (`window`) and as a whole (`whole`), and within a window
with brightness and contrast varied by 0.2, as the float batches that networks see (`light`); and
from a torch DataLoader with two workers over all faces of the same mapped file (`mapped`). The
lake's file is taken out of memory before each way; the first seconds, an epoch where the rate
allows, are told apart (`cold`); then the rate is that of the seconds told. `kept` is the rate on
the large lake divided by that on the small one, the same way. Every half second each process of the
group is asked for its own memory (USS); told is the largest. `disk` is what one process reads of
the file by itself, in order, before all else; `disk_share` is bytes of the large lake's faces shown
per second divided by it: above 1 where memory still held some.

    python -m benchmarks.large_lake write FOLDER [--faces 200000]
    python -m benchmarks.large_lake measure FOLDER [--limit-mib 3072] [--out FILE]

`--limit-mib 0` sets no limit, and needs no right to make a control group.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.limited import Group, forget, limited
from benchmarks.photos import environment
from data_service.corpora import drawn
from data_service.crops import AugmentConfig
from data_service.folds import make_folds
from data_service.lakes.lake import Lake, LakeWriter
from data_service.lakes.unpacked import unpack_once
from data_service.lakes.window import Window
from data_service.planning.plan import Plan, StagePlan
from data_service.rows import Recipe, RowMaker
from data_service.schema import Expression
from data_service.streaming.batches import to_batch
from data_service.streaming.source import FaceSource
from data_service.streaming.stream import open_stream

FACE, CROP, BATCH = 96, 84, 64
SMALL = 20
"""The small lake has one face in so many: of 200,000 well below what counts as a large file."""
DRAWN, FACES_PER_SUBJECT = 4000, 20
AUGMENT = AugmentConfig(crop_shift_pixels=6, flip=0.5)
LIGHT = replace(AUGMENT, brightness=0.2, contrast=0.2)
WAYS = (
    *("local window", "local light", "local whole"),
    *("ray window", "ray light", "ray whole", "mapped"),
)


def blocks(faces: int) -> Iterator[pa.Table]:
    """Rows of faces, in blocks of as many as were drawn."""
    maker = RowMaker(Recipe(corpus="drawn", image_size=FACE, channels=3, aligned=True))
    subjects = DRAWN // FACES_PER_SUBJECT
    scan = drawn.scan(None, subjects=subjects, faces_per_subject=FACES_PER_SUBJECT, size=FACE)
    table, _ = maker.rows(scan.faces)
    pixels_NHWC = table["image"].combine_chunks().to_numpy_ndarray()
    for first in range(0, faces, DRAWN):
        rng = np.random.default_rng(first)
        made_NHWC = np.roll(pixels_NHWC, rng.integers(-9, 10, 2), axis=(1, 2))
        made_NHWC = made_NHWC[:, :, :: rng.choice([1, -1])]
        made_NHWC = (made_NHWC * rng.uniform(0.7, 1.0)).astype(np.uint8)
        yield _renamed(table, f"{first:07d}", made_NHWC).slice(0, faces - first)


def _renamed(table: pa.Table, block: str, pixels_NHWC: np.ndarray) -> pa.Table:
    for name in ("name", "subject", "sample_id"):
        at = table.schema.get_field_index(name)
        values = [f"{block}/{one}" for one in table[name].to_pylist()]
        table = table.set_column(at, table.schema.field(at), pa.array(values, pa.string()))
    at = table.schema.get_field_index("image")
    field = table.schema.field(at)
    stored = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(pixels_NHWC).ravel()), field.type.storage_type.list_size
    )
    return table.set_column(at, field, pa.ExtensionArray.from_storage(field.type, stored))


def write(folder: Path, faces: int) -> None:
    """Both lakes, unpacked."""
    for name, count in (("small", faces // SMALL), ("large", faces)):
        writer = LakeWriter(
            folder / name, corpus="drawn", image_size=FACE, channels=3, source_hash=""
        )
        for table in blocks(count):
            writer.append(table)
        writer.finish([], {}, {})
        print(_file(folder / name), file=sys.stderr)


def _file(lake: Path) -> Path:
    return unpack_once(lake, Lake.open(lake).manifest)


def source_of(path: Path, window_mib: int, augment: AugmentConfig = AUGMENT) -> FaceSource:
    """One long stage over the training faces of a fold, seven tenths of the lake."""
    lake = Lake.open(path)
    plan = Plan(
        lake.table,
        make_folds(lake.table, 5)[0],
        tuple(Expression),
        [StagePlan(images=10**9)],
        BATCH,
        0,
        window=Window.of(lake.manifest, window_mib),
    )
    return FaceSource(lake=path, plan=plan, side=CROP, augment=augment)


class Mapped(Dataset):
    """What one writes for a DataLoader over a mapped file."""

    def __init__(self, faces_NHWC: np.ndarray) -> None:
        self._faces_NHWC = faces_NHWC

    def __len__(self) -> int:
        return len(self._faces_NHWC)

    def __getitem__(self, index: int) -> torch.Tensor:
        top, left = torch.randint(FACE - CROP + 1, (2,)).tolist()
        cut = self._faces_NHWC[index][top : top + CROP, left : left + CROP]
        return torch.from_numpy(np.ascontiguousarray(cut[:, ::-1] if torch.rand(()) < 0.5 else cut))


def batches(lake: Path, way: str, window_mib: int) -> Iterator[int]:
    """Faces of each batch, without end."""
    if way == "mapped":
        shape = Lake.open(lake).faces.shape
        faces_NHWC = np.asarray(np.memmap(_file(lake), np.uint8, "r", shape=shape))
        loader = DataLoader(
            Mapped(faces_NHWC), BATCH, shuffle=True, num_workers=2, persistent_workers=True
        )
        while True:
            yield from map(len, loader)
    kind, order = way.split()
    augment = LIGHT if order == "light" else AUGMENT
    source = source_of(lake, 0 if order == "whole" else window_mib, augment)
    with open_stream(source, start=0, stop=source.plan.num_steps, kind=kind) as stream:  # type: ignore[arg-type]
        for packed in stream:
            if order == "light":
                yield len(to_batch(packed, "cpu", augment).faces_BCHW)
            else:
                yield len(packed.arrays()["view/augmented"])


def read(lake: Path, way: str, window_mib: int, warm_up: float, seconds: float) -> dict:
    """The rate of one way."""
    torch.set_num_threads(1)
    if way.startswith("ray"):
        from cluster.session import connect

        with connect(num_cpus=2):
            return _rate(batches(lake, way, window_mib), warm_up, seconds)
    return _rate(batches(lake, way, window_mib), warm_up, seconds)


def _rate(taken: Iterator[int], warm_up: float, seconds: float) -> dict:
    next(taken)
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < warm_up:
        images += next(taken)
    cold = round(images / (time.perf_counter() - started))
    before, started = images, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        images += next(taken)
    taken.close()  # type: ignore[attr-defined]
    return {"images_per_second": round((images - before) / spent), "cold": cold, "images": images}


def measured(group: Group, way: str, disk: float, options: argparse.Namespace) -> dict:
    """One way on both lakes, beside a disk of so many bytes per second."""
    found: dict = {}
    for name in ("small", "large"):
        forget(_file(options.folder / name))
        peaks: dict[str, float] = {}
        numbers = ("window_mib", "warm_up", "seconds")
        given = [f"--{key.replace('_', '-')}={getattr(options, key)}" for key in numbers]
        lake = str(options.folder / name)
        command = [sys.executable, "-m", "benchmarks.large_lake", "read", lake, "--way", way]
        told = group.run([*command, *given], peaks)
        process, most = max(peaks.items(), key=lambda one: one[1])
        card = json.loads(told.splitlines()[-1])
        found[name] = card | {"largest_uss_mib": round(most), "process": process.split(" #")[0]}
        print(way, name, found[name], file=sys.stderr, flush=True)
    rates = [found[name]["images_per_second"] for name in ("large", "small")]
    shares = {"kept": rates[0] / rates[1], "disk_share": rates[0] * FACE * FACE * 3 / disk}
    return found | {name: round(share, 3) for name, share in shares.items()}


def disk_rate(file: Path) -> float:
    """Bytes per second of reading a file in order that is not in memory."""
    forget(file)
    started, size = time.perf_counter(), 0
    with file.open("rb", buffering=0) as opened:
        while (part := len(opened.read(4 << 20))) and size < 2 << 30:
            size += part
    return size / (time.perf_counter() - started)


def measure(options: argparse.Namespace) -> str:
    """The result of all ways; it is written after each, so that a run cut off keeps what it has."""
    lake = Lake.open(options.folder / "large")
    disk = disk_rate(_file(lake.path))
    result: dict = {
        "method": " ".join(__doc__.split("Method. ")[1].split("\n\n")[0].split()),
        "faces": len(lake),
        "lake_mib": lake.manifest.num_bytes >> 20,
        "limit_mib": options.limit_mib,
        "window_mib": options.window_mib,
        "seconds": options.seconds,
        "disk_mib_per_second": round(disk / 2**20),
        "environment": environment(),
        "ways": {},
    }
    with limited(options.limit_mib << 20) as group:
        for way in options.way or WAYS:
            result["ways"][way] = measured(group, way, disk, options)
            if options.out:
                options.out.write_text(json.dumps(result, indent=1) + "\n")
    return json.dumps(result, indent=1)


def main() -> None:
    """Writes the lakes, measures, or (in the group) reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("write", "measure", "read"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--limit-mib", type=int, default=3072, help="0: none")
    parser.add_argument("--window-mib", type=int, default=512)
    parser.add_argument("--warm-up", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.folder = options.folder.absolute()
    os.environ["MIEN_CACHE"] = str(
        (options.folder.parent if options.part == "read" else options.folder) / "cache"
    )
    if options.part == "write":
        return write(options.folder, options.faces)
    if options.part == "read":
        card = read(
            options.folder, options.way[0], options.window_mib, options.warm_up, options.seconds
        )
        return print(json.dumps(card))
    print(measure(options))


if __name__ == "__main__":
    main()

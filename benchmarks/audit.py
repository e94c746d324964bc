"""How many planted copies the audit finds, how many faces it flags wrongly, and what it costs.

Method. `planted`: of some photographs of a corpus, evenly spread, ten changed copies each are put
beside the corpus under new subjects: mirrored, cut to 95 % of each side at random places, encoded
as JPEG of quality 40, 20 % brighter or darker, and every pair of these. All are ingested alike
(MTCNN finds each anew) and audited. A copy counts as found where it stands in one group with its
original. A photograph counts as flagged where it is paired with another one that
`benchmarks/photos_copies.csv` does not list. That list was made by looking at the 80 pairs most
alike of the one corpus, by descriptors and by likeness; the threshold was set with sight of them
and of 300 planted copies of 30 photographs of the same corpus, drawn with another seed. Another
corpus has no part in either.

`cost`: lakes of drawn faces at 48 px, 40 for each subject in sittings of eight; 500 of them stand
there again under subjects of their own, changed in the same ten ways and delivered aligned. A
process of its own audits each lake; told are its seconds, its processor time on one thread, its
peak memory (the pages of files that it maps among it), and in `check_seconds` what a training then
pays to ask for leaks. `exponent` is the growth between neighbouring sizes: seconds ~
faces^exponent; n log n has 1.09 to 1.11 there.

    python -m benchmarks.audit planted SOURCE [--spread 27] [--out benchmarks/results/audit.json]
    python -m benchmarks.audit cost [--faces 10000 30000 100000] [--lakes DIR] [--out ...]
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.peak import peak_mib
from benchmarks.photos import environment
from data_service.audit import audited, leaks_of
from data_service.audit.findings import Audit
from data_service.corpora import drawn
from data_service.folds import make_folds
from data_service.ingest import ingest
from data_service.lakes.lake import Lake, LakeWriter
from data_service.rows import Recipe, RowMaker, thumbnail

PHOTO_PIXELS, DRAWN_PIXELS = 96, 48
FACES_PER_SUBJECT = 40
COPIES = 500
BLOCK_FACES = 2000
KNOWN = Path(__file__).with_name("photos_copies.csv")
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def flipped(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Left is right."""
    return np.ascontiguousarray(face[:, ::-1])


def cropped(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nineteen twentieths of each side, from anywhere."""
    height, width = (round(side * 0.95) for side in face.shape[:2])
    top = rng.integers(face.shape[0] - height + 1)
    left = rng.integers(face.shape[1] - width + 1)
    return np.ascontiguousarray(face[top : top + height, left : left + width])


def encoded(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As JPEG of quality 40 keeps it."""
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=40)
    return np.array(Image.open(file))


def brightened(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fifth brighter or darker."""
    return np.clip(face * rng.choice([0.8, 1.2]), 0, 255).round().astype(np.uint8)


CHANGES: tuple[Change, ...] = (flipped, cropped, encoded, brightened)
WAYS: dict[str, tuple[Change, ...]] = {
    " and ".join(change.__name__ for change in ways): ways
    for ways in (*((one,) for one in CHANGES), *itertools.combinations(CHANGES, 2))
}


def changed(face: np.ndarray, way: str, rng: np.random.Generator) -> np.ndarray:
    """The face, changed in one of `WAYS`."""
    for change in WAYS[way]:
        face = change(face, rng)
    return face


def plant(source: Path, folder: Path, spread: int) -> dict[str, tuple[str, str]]:
    """Puts the corpus and changed copies into a folder: original and way of each copy's name."""
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    planted = {}
    shutil.copytree(source / "images", folder / "images")
    (folder / "planted").mkdir()
    lines = [[row[name] for name in ("file", "subject", "expression")] for row in rows]
    for number, row in enumerate(rows[::spread]):
        with Image.open(source / row["file"]) as image:
            pixels = np.array(image.convert("RGB"))
        for index, way in enumerate(WAYS):
            name = f"planted/{number:04d}-{index}.png"
            Image.fromarray(changed(pixels, way, rng)).save(folder / name)
            planted[name] = (row["file"], way)
            lines.append([name, f"planted {number}", row["expression"]])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "subject", "expression"], *lines])
    return planted


def found_and_flagged(audit: Audit, names: list[str], planted: dict[str, tuple[str, str]]) -> dict:
    """The shares of planted copies found, and of the others flagged, with the latter's names."""
    group = {names[row]: index for index, rows in enumerate(audit.groups()) for row in rows}
    hits: dict[str, list[bool]] = defaultdict(list)
    missed = []
    for name, (original, way) in planted.items():
        if name in names:
            hits[way].append(name in group and group[name] == group.get(original))
            if not hits[way][-1]:
                missed.append([name, original, way])
    with KNOWN.open(newline="") as file:
        known = {frozenset((row["first"], row["second"])) for row in csv.DictReader(file)}
    pairs = [(names[pair.first], names[pair.second], pair.likeness) for pair in audit.pairs]
    own = [pair for pair in pairs if not {pair[0], pair[1]} & planted.keys()]
    wrong = [pair for pair in own if frozenset(pair[:2]) not in known]
    flagged = {name for pair in wrong for name in pair[:2]}
    unplanted = len(names) - sum(map(len, hits.values()))
    return {
        "planted": sum(map(len, hits.values())),
        "found_share": round(float(np.mean([hit for way in hits.values() for hit in way])), 4),
        "found_share_by_way": {way: round(float(np.mean(one)), 4) for way, one in hits.items()},
        "missed": missed,
        "unplanted": unplanted,
        "flagged": len(flagged),
        "flagged_share": round(len(flagged) / unplanted, 5),
        "flagged_pairs": wrong,
        "listed_by_hand": [sorted(pair) for pair in known],
        "listed_and_found": sum(frozenset(pair[:2]) in known for pair in own),
    }


def measure_planted(source: Path, spread: int) -> dict:
    """Ingests corpus and copies, and judges the audit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = plant(source, folder, spread)
        ingest("photos", folder, folder / "lake", image_size=PHOTO_PIXELS)
        lake = Lake.open(folder / "lake")
        return found_and_flagged(audited(lake), lake.table["name"].to_pylist(), planted)


def drawn_blocks(faces: int) -> Iterator[pa.Table]:
    """Rows of drawn faces, delivered aligned."""
    recipe = Recipe(corpus="drawn", image_size=DRAWN_PIXELS, channels=3, aligned=True)
    maker = RowMaker(recipe)
    for first in range(0, faces, BLOCK_FACES):
        count = min(BLOCK_FACES, faces - first)
        scan = drawn.scan(
            None,
            subjects=-(-count // FACES_PER_SUBJECT),
            faces_per_subject=FACES_PER_SUBJECT,
            seed=first // BLOCK_FACES,
            size=DRAWN_PIXELS,
        )
        table, _ = maker.rows(scan.faces[:count])
        names = [f"{first:07d}/{one}" for one in table["name"].to_pylist()]
        subjects = [f"{first:07d}/{one}" for one in table["subject"].to_pylist()]
        yield _with(table, name=names, subject=subjects, sample_id=names)


def _with(table: pa.Table, **columns: list) -> pa.Table:
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(values, field.type))
    return table


def copies_of(table: pa.Table, count: int, rng: np.random.Generator) -> pa.Table:
    """Some of the rows again, each changed, under names that tell original and way."""
    chosen = table.take(np.linspace(0, table.num_rows - 1, count).astype(int))
    pixels = chosen["image"].combine_chunks().to_numpy_ndarray()
    made = []
    for index, face in enumerate(pixels):
        way = list(WAYS)[index % len(WAYS)]
        again = changed(face, way, rng)
        made.append(cv2.resize(again, (DRAWN_PIXELS, DRAWN_PIXELS)))
    names = [f"copy {i % len(WAYS)}/{one}" for i, one in enumerate(chosen["name"].to_pylist())]
    chosen = _with(
        chosen,
        name=names,
        sample_id=names,
        subject=names,
        source_thumbnail=[thumbnail(face).tobytes() for face in made],
    )
    kind = chosen.schema.field("image").type
    stored = pa.FixedSizeListArray.from_arrays(np.stack(made).ravel(), kind.storage_type.list_size)
    image = pa.ExtensionArray.from_storage(kind, stored)
    return chosen.set_column(
        chosen.schema.get_field_index("image"), chosen.schema.field("image"), image
    )


def drawn_lake(folder: Path, faces: int) -> Path:
    """A lake of drawn faces with copies among them."""
    writer = LakeWriter(folder, corpus="drawn", image_size=DRAWN_PIXELS, channels=3, source_hash="")
    rng = np.random.default_rng(0)
    blocks = -(-faces // BLOCK_FACES)
    ends = np.linspace(0, COPIES, blocks + 1).astype(int)
    for block, table in enumerate(drawn_blocks(faces)):
        writer.append(table)
        if ends[block + 1] > ends[block]:
            writer.append(copies_of(table, int(ends[block + 1] - ends[block]), rng))
    writer.finish([], {}, {})
    return folder


def audit_alone(folder: Path) -> dict:
    """What a process of its own is called for: seconds and memory of one audit."""
    memory_before, before = peak_mib(), resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    lake = Lake.open(folder)
    audit = audited(lake)
    memory, after = peak_mib(), resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.perf_counter() - started
    fold = make_folds(lake.table, 5)[0]
    asked = time.process_time()
    leaks_of(lake, fold)
    check_seconds = time.process_time() - asked
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "faces": audit.faces,
        "processor_seconds": round(spent, 2),
        "seconds": round(seconds, 2),
        "check_seconds": round(check_seconds, 4),
        "peak_memory_mib": round(memory),
        "memory_before_mib": round(memory_before),
        "pairs": len(audit.pairs),
    }


def measure_cost(sizes: list[int], lakes: Path) -> dict:
    """Audits of growing lakes, which are made in the folder `lakes` where they are not there."""
    results: list[dict] = []
    for faces in sizes:
        folder = lakes / str(faces)
        if not folder.is_dir():
            drawn_lake(folder, faces)
        (folder / "audit.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.audit", "alone", str(folder)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        card = json.loads(told.splitlines()[-1])
        lake = Lake.open(folder)
        names = lake.table["name"].to_pylist()
        ways = list(WAYS)
        planted = {
            name: (name.partition("/")[2], ways[int(name[5])])
            for name in names
            if name.startswith("copy ")
        }
        judged = found_and_flagged(audited(lake), names, planted)
        card |= {key: judged[key] for key in ("planted", "found_share", "flagged_share")}
        if results:
            before = results[-1]
            growth = math.log(card["processor_seconds"] / before["processor_seconds"])
            card["exponent"] = round(growth / math.log(card["faces"] / before["faces"]), 3)
        results.append(card)
        print(card, file=sys.stderr, flush=True)
    return {"image_pixels": DRAWN_PIXELS, "sizes": results}


def main() -> None:
    """Runs one part and puts it into the result file, beside the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("planted", "cost", "alone"))
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--spread", type=int, default=27)
    parser.add_argument("--faces", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--lakes", type=Path, help="of `cost`: a folder where its lakes stay")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/audit.json"))
    options = parser.parse_args()
    if options.part == "alone":
        print(json.dumps(audit_alone(options.source)))
        return
    if options.part == "planted":
        result = measure_planted(options.source.absolute(), options.spread)
    else:
        with tempfile.TemporaryDirectory() as name:
            result = measure_cost(options.faces, options.lakes or Path(name))
    whole = json.loads(options.out.read_text()) if options.out.is_file() else {}
    part = whole.setdefault(options.part, {}) if options.part == "planted" else whole
    part[options.source.name if options.source else "cost"] = result | {
        "environment": environment()
    }
    options.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

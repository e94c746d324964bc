"""RAF-DB, the basic expressions (Li et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from data_service.corpora._class_folders import class_folders
from data_service.corpora._files import (
    existing_folder,
    file_named,
    folders_named,
    listed_faces,
    small_text,
    unwrapped,
)
from data_service.corpora._labels import of_code
from data_service.corpora._parts import outside_parts
from data_service.corpora._points import landmarks
from data_service.corpora._tables import table_lines
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "rafdb"
DESCRIPTION = "RAF-DB, basic expressions: 15,339 faces from the web, 7 expressions"
LAYOUT = """\
SOURCE/               aligned.zip or original.zip unpacked, at most a few folders deep
  .../EmoLabel/list_patition_label.txt                train_00001.jpg 5
  .../Image/aligned/train_00001_aligned.jpg           or Image/original/train_00001.jpg, with
  .../Annotation/manual/train_00001_manu_attri.txt    five lines of x y (optional)
or train|test/1..7/*.jpg, a folder for each code
split: train and test of the authors; there are no subjects.
options: images=aligned or original"""
CODES: Mapping[int, Expression] = {
    1: Expression.SURPRISE,
    2: Expression.FEAR,
    3: Expression.DISGUST,
    4: Expression.HAPPINESS,
    5: Expression.SADNESS,
    6: Expression.ANGER,
    7: Expression.NEUTRAL,
}
EXPECTED: Mapping[str, int] = {
    "faces": 15_339,
    "split/train": 12_271,
    "split/test": 3_068,
    "faces/surprise": 1_619,
    "faces/fear": 355,
    "faces/disgust": 877,
    "faces/happiness": 5_957,
    "faces/sadness": 2_460,
    "faces/anger": 867,
    "faces/neutral": 3_204,
}
LEFT_ALONE = ("*/EmoLabel/*", "*/Annotation/*", "*/Image/original/*", "*.csv", "*.txt", "*.md")
LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"""The owners' spelling, and the one that people mend it to."""
SPLITS = ("train", "test")


def scan(source: Path | None, *, images: Literal["aligned", "original"] = "aligned") -> Scan:
    """The listed faces. ValueError for a folder without list and pictures, and for a damaged list.

    Original pictures often show several people: the owners' five points tell whose face it is.
    """
    source = existing_folder(source, NAME, f"a folder with EmoLabel/{LISTS[0]} and Image/{images}")
    table = file_named(source, *LISTS)
    if table is None:
        return _folders(source)
    pictures = next(iter(folders_named(source, images)), None)
    if pictures is None:
        raise ValueError(f"no folder {images} in {source}; {NAME} needs Image/{images}/*.jpg")
    points = None
    if images == "original":
        points = file_named(source, "Annotation/manual/train_00001_manu_attri.txt")
    ending = "_aligned" if images == "aligned" else ""
    closed: list[Rejection] = []
    rows = _rows(source, table, ending, points and points.parent, closed)
    found = listed_faces(unwrapped(pictures), table, rows, EXPECTED)
    return replace(found, rejected=(*found.rejected, *closed))


def _rows(
    source: Path, table: Path, ending: str, points: Path | None, closed: list[Rejection]
) -> Iterator[tuple[int, SourceFace]]:
    """Line and face of each row; files of points that are not to be read go to `closed`."""
    for line, text in enumerate(map(str.strip, table_lines(source, table)), start=1):
        if not text:
            continue
        file, _, code = text.rpartition(" ")
        stem, split = Path(file.strip()).stem, file.partition("_")[0]
        expression = of_code(code, CODES)
        if split not in SPLITS or expression is None:
            valid = ", ".join(f"{number} {expression}" for number, expression in CODES.items())
            raise ValueError(
                f"{table}, line {line}: '{text[:60]}'; valid: train_N.jpg or test_N.jpg and {valid}"
            )
        yield (
            line,
            SourceFace(
                name=f"{stem}{ending}{Path(file).suffix}",
                subject=None,
                expression=expression,
                split=split,
                landmarks_L3=_points(source, points, stem, closed) if points else None,
            ),
        )


def _points(source: Path, folder: Path, stem: str, closed: list[Rejection]) -> np.ndarray | None:
    """The five points that people set, from the first five lines; None without whole ones."""
    path = folder / f"{stem}_manu_attri.txt"
    lines = small_text(source, path, closed).splitlines()[:5]
    return landmarks([cell for line in lines for cell in line.split()], 5)


def _folders(source: Path) -> Scan:
    names = {str(code): expression for code, expression in CODES.items()}
    faces: list[SourceFace] = []
    rejected: list[Rejection] = []
    parts = {folder: split for split in SPLITS for folder in folders_named(source, split)[:1]}
    for folder, split in parts.items():
        found, refused = class_folders(source, folder, names, split)
        faces += found
        rejected += refused
    if not faces:
        raise ValueError(f"neither {LISTS[0]} nor train/1/*.jpg in {source}; {NAME} needs one")
    rejected += outside_parts(source, parts, LEFT_ALONE)
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED)

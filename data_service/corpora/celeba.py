"""CelebA (Liu et al., ICCV 2015): 40 attributes and 10,177 identities of 202,599 pictures."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_service.corpora._files import existing_folder, folders_named
from data_service.corpora._tables import table_lines
from data_service.schema import Rejection, Scan, SourceFace

NAME = "celeba"
DESCRIPTION = "CelebA: 202,599 pictures of 10,177 identities with 40 attributes, 5 landmarks"
LAYOUT = """\
SOURCE/
  .../list_attr_celeba.txt                 202599 / the 40 names / 000001.jpg -1 1 1 ...
  .../list_eval_partition.txt              000001.jpg 0     (0 train, 1 validation, 2 test)
  .../identity_CelebA.txt                  000001.jpg 2880
  .../list_landmarks_align_celeba.txt      or list_landmarks_celeba.txt for images=wild
  .../img_align_celeba/000001.jpg          or img_celeba/ for images=wild
  .../list_bbox_celeba.txt                 000001.jpg 95 71 226 313   (for images=wild)
also the .csv forms of these lists; only the first list and the pictures are indispensable
options: images=aligned, or wild: what lies around the box of a face, which nobody then aligns.
Attributes are 1 or 0; no picture has an expression"""
EXPECTED: Mapping[str, int] = {
    "faces": 202_599,
    "subjects": 10_177,
    "split/train": 162_770,
    "split/validation": 19_867,
    "split/test": 19_962,
}
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "aligned": ("img_align_celeba", "img_align_celeba_png"),
    "wild": ("img_celeba",),
}
LEFT_ALONE = ("*/list_*", "*/identity_CelebA*", "*/img_celeba/*")
LANDMARKS = {"aligned": "list_landmarks_align_celeba", "wild": "list_landmarks_celeba"}
BOXES = "list_bbox_celeba"
SPLITS = {0: "train", 1: "validation", 2: "test"}


@dataclass(frozen=True, slots=True, eq=False)
class _Traits(Mapping[str, float]):
    """The attributes of one face: a row of a matrix, because 40 numbers in a dict take 1.3 kB."""

    places: Mapping[str, int]
    row_A: np.ndarray

    def __getitem__(self, name: str) -> float:
        return float(self.row_A[self.places[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _List:
    """One of the corpus' lists: whole numbers, a row for each picture."""

    path: Path
    columns: tuple[str, ...]
    row: Mapping[str, int]
    values: np.ndarray

    def of(self, picture: str) -> np.ndarray | None:
        """The numbers of a picture; None where the list does not have it."""
        at = self.row.get(picture)
        return None if at is None else self.values[at]


def scan(source: Path | None, *, images: str = "aligned") -> Scan:
    """The pictures of the list of attributes that lie in the folder of `images`.

    Listed pictures that are missing and pictures that no list has are rejected. ValueError for a
    folder without that list or those pictures, and for a line or a code that cannot be.
    """
    source = existing_folder(source, NAME, "a folder with list_attr_celeba.txt and its pictures")
    if images not in FOLDERS:
        raise ValueError(f"option images '{images}' of {NAME}; valid: {', '.join(FOLDERS)}")
    folder = _pictures_folder(source, images)
    traits = _list(source, "list_attr_celeba")
    if traits is None:
        raise ValueError(f"no list_attr_celeba.txt or .csv in {source}; see `mien corpora`")
    if unknown := set(np.unique(traits.values)) - {-1, 0, 1}:
        raise ValueError(f"{traits.path}: attribute value {min(unknown)}; valid: -1 or 1")
    faces, rejected = [], []
    present: dict[str, str] = {}
    for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
        if present.setdefault(Path(name).stem, name) != name:
            rejected.append(Rejection(name=name, reason="listed twice", detail=Path(name).stem))
    make = _Maker(source, folder, images, traits)
    for picture in traits.row:
        file = present.pop(Path(picture).stem, None)
        if file is None:
            rejected.append(Rejection(name=picture, reason="file missing", detail=str(folder)))
        else:
            faces.append(make.face(picture, file))
    rejected += [
        Rejection(name=file, reason="not listed", detail=traits.path.name)
        for file in present.values()
    ]
    as_found = images == "wild"
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED, aligned=as_found)


class _Maker:
    """Faces from the lists that the copy has."""

    def __init__(self, source: Path, folder: Path, images: str, traits: _List) -> None:
        self._folder, self._prefix = folder, folder.relative_to(source).as_posix()
        self._places = {name: at for at, name in enumerate(traits.columns)}
        self._traits_NA = traits.values > 0
        self._rows = traits.row
        self._splits = _list(source, "list_eval_partition", columns=1)
        self._identities = _list(source, "identity_CelebA", columns=1)
        self._landmarks = _list(source, LANDMARKS[images], columns=10)
        self._boxes = _list(source, BOXES, columns=4) if images == "wild" else None
        if images == "wild" and self._boxes is None:
            raise ValueError(f"no {BOXES}.txt or .csv in {source}; {NAME} needs it (images=wild)")

    def face(self, picture: str, file: str) -> SourceFace:
        identity, split = _code(self._identities, picture), _code(self._splits, picture)
        if split is not None and split not in SPLITS:
            assert self._splits is not None
            valid = ", ".join(f"{code} {name}" for code, name in SPLITS.items())
            raise ValueError(f"{self._splits.path}, {picture}: part {split}; valid: {valid}")
        points_10 = self._landmarks.of(picture) if self._landmarks else None
        points_53 = np.ones((5, 3), np.float32)
        if points_10 is not None:
            points_53[:, :2] = points_10.reshape(5, 2)
        return SourceFace(
            name=f"{self._prefix}/{file}",
            subject=None if identity is None else str(identity),
            expression=None,
            path=self._folder / file,
            split=None if split is None else SPLITS[split],
            landmarks_L3=None if points_10 is None else points_53,
            attributes=_Traits(self._places, self._traits_NA[self._rows[picture]]),
            options=self._box(picture),
        )

    def _box(self, picture: str) -> dict[str, list[int]]:
        """Where the face is; one without extent where the list does not have the picture."""
        if self._boxes is None:
            return {}
        box_4 = self._boxes.of(picture)
        return {"box": [0, 0, 0, 0] if box_4 is None else box_4.tolist()}


def _code(table: _List | None, picture: str) -> int | None:
    row = table.of(picture) if table else None
    return None if row is None else int(row[0])


def _pictures_folder(source: Path, images: str) -> Path:
    """The folder of the pictures, which some copies hold in a folder of the same name."""
    for name in FOLDERS[images]:
        for folder in folders_named(source, name):
            return folder / name if (folder / name).is_dir() else folder
    names = " or ".join(FOLDERS[images])
    raise ValueError(f"no folder {names} in {source}; {NAME} needs its pictures (images={images})")


def _list(source: Path, stem: str, *, columns: int | None = None) -> _List | None:
    """The list of that name at most two folders below the source; None where there is none.

    Lists have whole numbers after the name of a picture, in columns divided by spaces (.txt, with
    the number of pictures and the names of the columns on top, or neither) or by commas (.csv).
    """
    patterns = [f"{deep}{stem}{kind}" for deep in ("", "*/", "*/*/") for kind in (".txt", ".csv")]
    path = next((found for pattern in patterns for found in sorted(source.glob(pattern))), None)
    if path is None:
        return None
    comma = "," if path.suffix == ".csv" else None
    names: tuple[str, ...] = ()
    rows: dict[str, int] = {}
    values = array("i")
    for number, line in enumerate(table_lines(source, path), start=1):
        cells = line.split(comma)
        picture = cells[0].strip() if cells else ""
        if not rows and "." not in picture:
            header = [name.strip() for name in cells]
            names = tuple(name for name in header if name not in ("", "image_id"))
        elif picture:
            if picture in rows:
                raise ValueError(f"{path}, line {number}: {picture} is listed twice")
            numbers = _numbers(cells[1:], columns or len(names), f"{path}, line {number}")
            values.frombytes(numbers.tobytes())
            rows[picture] = len(rows)
    table = np.asarray(values).reshape(len(rows), columns or len(names))
    return _List(path=path, columns=names, row=rows, values=table)


def _numbers(cells: list[str], columns: int, where: str) -> np.ndarray:
    try:
        numbers = np.array([int(cell) for cell in cells], np.int32)
    except (ValueError, OverflowError):
        numbers = np.empty(0)
    if len(numbers) != columns:
        found = " ".join(cells)[:80]
        raise ValueError(f"{where}: valid: a picture and {columns} whole numbers; found {found}")
    return numbers

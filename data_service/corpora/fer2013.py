"""FER2013 (Goodfellow et al., Challenges in Representation Learning, ICONIP 2013)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_service.alignment.decode import UnreadableImageError
from data_service.corpora._class_folders import class_folders
from data_service.corpora._files import existing_folder, file_named, opened, unlisted
from data_service.corpora._labels import of_code
from data_service.corpora._parts import outside_parts
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "fer2013"
DESCRIPTION = "FER2013: 35,887 grey pictures of 48 x 48 from the web, 7 expressions"
LAYOUT = """\
SOURCE/
  fer2013.csv         emotion,pixels,Usage
                      0,70 80 82 ... (2,304 numbers),Training|PublicTest|PrivateTest
or icml_face_data.csv (emotion, Usage, pixels), or folders train|test/angry/*.png, with
validation/ (or valid/ or val/) where a copy has it
or the challenge's own two, without the former: train.csv (emotion,pixels) is taken, test.csv
(pixels) is refused, as it has no labels; what is left has no test part and is divided by folds
split: Training, PublicTest (validation), PrivateTest (test); as folders mostly train and test.
No subjects. Pictures are taken as they are; blank ones are refused."""
CODES: Mapping[int, Expression] = {
    0: Expression.ANGER,
    1: Expression.DISGUST,
    2: Expression.FEAR,
    3: Expression.HAPPINESS,
    4: Expression.SADNESS,
    5: Expression.SURPRISE,
    6: Expression.NEUTRAL,
}
FOLDERS: Mapping[str, Expression] = {
    "angry": Expression.ANGER,
    "disgust": Expression.DISGUST,
    "fear": Expression.FEAR,
    "happy": Expression.HAPPINESS,
    "neutral": Expression.NEUTRAL,
    "sad": Expression.SADNESS,
    "surprise": Expression.SURPRISE,
}
EXPECTED: Mapping[str, int] = {
    "faces": 35_887,
    "split/train": 28_709,
    "split/validation": 3_589,
    "split/test": 3_589,
}
EXPECTED_FOLDERS: Mapping[str, int] = {
    "faces": 35_887,
    "split/train": 28_709,
    "split/test": 7_178,
}
EXPECTED_TRAIN: Mapping[str, int] = {"faces": 28_709, "split/train": 28_709}
SPLITS: Mapping[str, str] = {
    "Training": "train",
    "PublicTest": "validation",
    "PrivateTest": "test",
}
TABLES = ("fer2013.csv", "icml_face_data.csv")
TRAIN, TEST = "train.csv", "test.csv"
"""The tables of the challenge's page, one for each part."""
VALIDATION = ("validation", "valid", "val")
"""What the folder of that part is called, where a copy has one."""
COLUMNS = ("emotion", "pixels", "Usage")
SIDE = 48
MOST_BYTES = 1 << 16
"""More than a row of 2,304 numbers ever has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the table: its line, its place in the file, its expression and split."""

    line: int
    options: Mapping[str, int]
    expression: Expression
    split: str


def scan(source: Path | None) -> Scan:
    """The rows of the table, or the pictures of the folders, or the challenge's own tables.

    Files beside a table are rejected. ValueError for a folder that has none of these, and for a row
    with another code or usage.
    """
    source = existing_folder(source, NAME, f"a folder with {TABLES[0]}")
    if (table := file_named(source, *TABLES)) is not None:
        faces, others = _faces(source, table), unlisted(source, (), table)
        return Scan(faces=faces, rejected=tuple(others), expected=EXPECTED, aligned=True)
    if (found := _folders(source)) is not None:
        return found
    if (train := file_named(source, TRAIN)) is not None:
        return _challenge(source, train)
    raise ValueError(
        f"neither {' nor '.join((*TABLES, TRAIN))} nor train/angry/*.png in {source}; {NAME} needs "
        "one"
    )


def _faces(source: Path, table: Path, split: str | None = None) -> tuple[SourceFace, ...]:
    return tuple(
        SourceFace(
            name=f"{table.stem}/{number:05d}",
            subject=None,
            expression=row.expression,
            path=table,
            split=row.split,
            options=row.options,
        )
        for number, row in enumerate(rows(source, table, split))
    )


def _challenge(source: Path, train: Path) -> Scan:
    """The table of the training part, and that of the test part where a copy has its labels."""
    faces, expected = _faces(source, train, "train"), EXPECTED_TRAIN
    test, withheld = train.with_name(TEST), []
    name = test.relative_to(source).as_posix()
    if test.exists():
        with opened(source, test) as file:
            columns = _columns(file)
        if "emotion" in columns:
            faces, expected = (*faces, *_faces(source, test, "test")), EXPECTED_FOLDERS
        else:
            told = f"columns {','.join(columns)[:80]}"
            withheld.append(Rejection(name=name, reason="labels withheld", detail=told))
    others = unlisted(source, (name,), train)
    rejected = (*withheld, *others)
    return Scan(faces=faces, rejected=rejected, expected=expected, aligned=True)


def _columns(file: BinaryIO) -> list[str]:
    """The names in the first line, in small letters."""
    header = file.readline(MOST_BYTES).decode("utf-8-sig", "replace")
    return [name.strip().lower() for name in header.split(",")]


def rows(source: Path, table: Path, split: str | None = None) -> Iterator[Row]:
    """The rows of the table; with a `split` there is no column Usage, and all are of that part.

    ValueError, with file and line, for what no row of FER2013 has.
    """
    columns = COLUMNS if split is None else COLUMNS[:2]
    with opened(source, table) as file:
        names = _columns(file)
        at = {column: names.index(column.lower()) for column in columns if column.lower() in names}
        if len(at) < len(columns):
            raise ValueError(
                f"{table}, line 1: header '{','.join(names)[:80]}'; valid: {','.join(columns)}"
            )
        line, offset = 1, file.tell()
        while content := file.readline(MOST_BYTES):
            line += 1
            if content.strip():
                options = {"offset": offset, "column": at["pixels"]}
                yield _row(f"{table}, line {line}", line, content.split(b","), at, options, split)
            offset += len(content)


def _row(
    where: str,
    line: int,
    cells: Sequence[bytes],
    at: Mapping[str, int],
    options: Mapping[str, int],
    split: str | None,
) -> Row:
    if len(cells) != len(at):
        raise ValueError(f"{where}: {len(cells)} columns; valid: {','.join(at)}")
    told = {name: cells[place].decode("latin-1").strip().strip('"') for name, place in at.items()}
    expression = of_code(told["emotion"], CODES)
    if expression is None:
        valid = ", ".join(f"{code} {one}" for code, one in CODES.items())
        raise ValueError(f"{where}: unknown emotion '{told['emotion'][:40]}'; valid: {valid}")
    split = split or SPLITS.get(told["Usage"])
    if split is None:
        valid = ", ".join(SPLITS)
        raise ValueError(f"{where}: unknown Usage '{told['Usage'][:40]}'; valid: {valid}")
    return Row(line=line, options=options, expression=expression, split=split)


def read_pictures(
    path: Path, faces: Sequence[SourceFace]
) -> Iterator[np.ndarray | UnreadableImageError]:
    """The pictures of rows of the table, uint8 48 x 48 x 3."""
    with path.open("rb") as file:
        for face in faces:
            file.seek(face.options["offset"])
            cells = file.readline(MOST_BYTES).split(b",")
            yield _picture(cells[face.options["column"]].strip().strip(b'"').split())


def _picture(numbers: Sequence[bytes]) -> np.ndarray | UnreadableImageError:
    try:
        values = np.array([int(number) for number in numbers])
    except ValueError:
        return UnreadableImageError("damaged pixels", "not numbers")
    if len(values) != SIDE * SIDE:
        return UnreadableImageError("damaged pixels", f"{len(values)} of {SIDE * SIDE}")
    if values.min() < 0 or values.max() > 255:
        return UnreadableImageError("damaged pixels", "not 0 to 255")
    if values.min() == values.max():
        return UnreadableImageError("blank picture")
    grey_SS1 = values.astype(np.uint8).reshape(SIDE, SIDE, 1)
    return np.repeat(grey_SS1, 3, axis=2)


def _folders(source: Path) -> Scan | None:
    """The pictures in folders of expressions; None where there are none."""
    faces: list[SourceFace] = []
    rejected: list[Rejection] = []
    parts = _parts(source)
    for folder, split in parts.items():
        found, refused = class_folders(source, folder, FOLDERS, split)
        faces += found
        rejected += refused
    if not faces:
        return None
    rejected += outside_parts(source, parts)
    expected = EXPECTED if "validation" in parts.values() else EXPECTED_FOLDERS
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=expected, aligned=True)


def _parts(source: Path) -> dict[Path, str]:
    """The folders of the parts; of several that may be that of the validation part none is."""
    validation = [source / name for name in VALIDATION if (source / name).is_dir()]
    parts = {source / split: split for split in ("train", "test")}
    if len(validation) == 1:
        parts[validation[0]] = "validation"
    return {folder: split for folder, split in parts.items() if folder.is_dir()}

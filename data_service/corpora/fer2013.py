"""FER2013 (Goodfellow et al., Challenges in Representation Learning, ICONIP 2013)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_service.alignment.decode import UnreadableImageError
from data_service.corpora._class_folders import class_folders
from data_service.corpora._files import existing_folder, file_named, opened
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "fer2013"
DESCRIPTION = "FER2013: 35,887 grey pictures of 48 x 48 from the web, 7 expressions"
LAYOUT = """\
SOURCE/
  fer2013.csv         emotion,pixels,Usage
                      0,70 80 82 ... (2,304 numbers),Training|PublicTest|PrivateTest
or icml_face_data.csv (emotion, Usage, pixels), or folders train|test/angry/*.png
split: Training, PublicTest (validation), PrivateTest (test); as folders only train and test.
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
SPLITS: Mapping[str, str] = {
    "Training": "train",
    "PublicTest": "validation",
    "PrivateTest": "test",
}
TABLES = ("fer2013.csv", "icml_face_data.csv")
COLUMNS = ("emotion", "pixels", "Usage")
SIDE = 48
MOST_BYTES = 1 << 16
"""More than a row of 2,304 numbers ever has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the table: its line, its place in the file, its code and split."""

    line: int
    options: Mapping[str, int]
    code: int
    split: str


def scan(source: Path | None) -> Scan:
    """The rows of the table, or the pictures of the folders.

    ValueError for a folder that has neither, and for a row with another code or usage.
    """
    source = existing_folder(source, NAME, f"a folder with {TABLES[0]}")
    table = file_named(source, *TABLES)
    if table is None:
        return _folders(source)
    faces = tuple(
        SourceFace(
            name=f"{table.stem}/{number:05d}",
            subject=None,
            expression=CODES[row.code],
            path=table,
            split=row.split,
            options=row.options,
        )
        for number, row in enumerate(rows(source, table))
    )
    return Scan(faces=faces, expected=EXPECTED, aligned=True)


def rows(source: Path, table: Path) -> Iterator[Row]:
    """The rows of the table. ValueError, with file and line, for what no row of FER2013 has."""
    with opened(source, table) as file:
        header = file.readline(MOST_BYTES).decode("utf-8-sig", "replace").strip().split(",")
        names = [name.strip().lower() for name in header]
        at = {column: names.index(column.lower()) for column in COLUMNS if column.lower() in names}
        if len(at) < len(COLUMNS):
            raise ValueError(
                f"{table}, line 1: header '{','.join(header)[:80]}'; valid: {','.join(COLUMNS)}"
            )
        line, offset = 1, file.tell()
        while content := file.readline(MOST_BYTES):
            line += 1
            if content.strip():
                options = {"offset": offset, "column": at["pixels"]}
                yield _row(table, line, content.split(b","), at, options)
            offset += len(content)


def _row(
    table: Path,
    line: int,
    cells: Sequence[bytes],
    at: Mapping[str, int],
    options: Mapping[str, int],
) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{table}, line {line}: {len(cells)} columns; valid: {','.join(COLUMNS)}")
    emotion, usage = (
        cells[at[column]].decode("latin-1").strip().strip('"') for column in ("emotion", "Usage")
    )
    if not emotion.isascii() or not emotion.isdigit() or int(emotion) not in CODES:
        valid = ", ".join(f"{code} {expression}" for code, expression in CODES.items())
        raise ValueError(f"{table}, line {line}: unknown emotion '{emotion[:40]}'; valid: {valid}")
    if usage not in SPLITS:
        raise ValueError(
            f"{table}, line {line}: unknown Usage '{usage[:40]}'; valid: {', '.join(SPLITS)}"
        )
    return Row(line=line, options=options, code=int(emotion), split=SPLITS[usage])


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


def _folders(source: Path) -> Scan:
    faces: list[SourceFace] = []
    rejected: list[Rejection] = []
    for split in ("train", "test"):
        if (source / split).is_dir():
            found, refused = class_folders(source, source / split, FOLDERS, split)
            faces += found
            rejected += refused
    if not faces:
        raise ValueError(
            f"neither {' nor '.join(TABLES)} nor train/angry/*.png in {source}; {NAME} needs one"
        )
    return Scan(
        faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED_FOLDERS, aligned=True
    )

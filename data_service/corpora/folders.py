"""Any corpus in folders named after expressions, or listed in a table with named columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_service.corpora._files import existing_folder, listed_faces, visible
from data_service.corpora._labels import SPLITS, Labels, split_of
from data_service.corpora._points import landmarks as face_points
from data_service.corpora._tables import table_rows
from data_service.corpora._walk import faces_named, name_pattern
from data_service.schema import Rejection, Scan, SourceFace

NAME = "folders"
DESCRIPTION = "Any other: folders named after expressions, or a table with named columns"
LAYOUT = """\
SOURCE/happy/1.jpg                  folders named after expressions
SOURCE/train/happy/1.jpg            the same within parts of a split (train, validation, test)
SOURCE/...                          any other, with pattern={subject}/{expression}/{frame}
SOURCE/labels.csv SOURCE/1.jpg      a table, with table=labels.csv; its columns: file, expression;
                                    where it has them subject, split, sequence, frame, intensity
options: pattern of {split} {expression} {subject} {sequence} {frame} and * (deeper folders are
free); table; images (the folder that its files lie below); delimiter=, (or tab); subject=person,
file=path ... (what a column is called); attributes=Smiling,Young (columns of numbers);
landmarks=x1,y1,... (10 or 136 columns); labels=0:neutral,joy:happiness,misc:- (what your labels
mean, - leaves out); aligned=False (True: the pictures are aligned faces already)"""
EXPECTED: Mapping[str, int] = {}
OWN_TABLE = "labels.csv"
LEFT_OUT = "left out by labels"
NOT_TOLD = -1.0
"""What many tables have for both coordinates of a point that is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """The names of a table's columns; `file` and `expression` must be there."""

    file: str
    expression: str
    subject: str
    split: str
    sequence: str
    frame: str
    intensity: str
    attributes: tuple[str, ...]
    landmarks: tuple[str, ...]

    def needed(self) -> tuple[str, ...]:
        """Those that must be there: the two, and all that were named by an option."""
        named = [
            name
            for field in ("subject", "split", "sequence", "frame", "intensity")
            if (name := getattr(self, field)) != field
        ]
        return (self.file, self.expression, *named, *self.attributes, *self.landmarks)


def scan(
    source: Path | None,
    *,
    table: str = "",
    pattern: str = "",
    file: str = "file",
    expression: str = "expression",
    subject: str = "subject",
    split: str = "split",
    sequence: str = "sequence",
    frame: str = "frame",
    intensity: str = "intensity",
    attributes: str = "",
    landmarks: str = "",
    labels: str = "",
    images: str = "",
    delimiter: str = ",",
    aligned: bool = False,
) -> Scan:
    """The faces of a table, or of every file below the source whose name fits the pattern.

    Without a table or a pattern, folders named after expressions, with or without parts of a split
    above them, are looked for, then labels.csv. ValueError for another layout, an unknown label or
    part, a missing column, a cell that is no number, a frame that is no whole one.
    """
    source = existing_folder(source, NAME, "folders named after expressions, or a table")
    meaning = Labels(labels)
    if not table and not pattern:
        pattern = _usual_pattern(source, meaning)
        table = "" if pattern else OWN_TABLE
    if pattern:
        faces, rejected = class_folders(source, pattern, meaning)
        return Scan(faces=tuple(faces), rejected=tuple(rejected), aligned=aligned)
    columns = _Columns(
        file=file,
        expression=expression,
        subject=subject,
        split=split,
        sequence=sequence,
        frame=frame,
        intensity=intensity,
        attributes=_names(attributes),
        landmarks=_names(landmarks),
    )
    if len(columns.landmarks) not in (0, 10, 136):
        raise ValueError(f"option landmarks: {len(columns.landmarks)} columns; valid: 10 or 136")
    rows = _rows(source, source / table, columns, meaning, delimiter)
    found = listed_faces(_images(source, images), source / table, rows, EXPECTED)
    return replace(found, aligned=aligned)


def class_folders(
    source: Path, template: str, meaning: Labels
) -> tuple[list[SourceFace], list[Rejection]]:
    """The faces of every file below the source whose name fits the template, and what does not."""

    def face_of(name: str, path: Path, fields: Mapping[str, str]) -> SourceFace | Rejection:
        label = fields.get("expression")
        expression = None if label is None else meaning.of(label, name)
        if label is not None and expression is None:
            return Rejection(name=name, reason=LEFT_OUT, detail=label)
        frame = fields.get("frame")
        return SourceFace(
            name=name,
            subject=fields.get("subject"),
            expression=expression,
            path=path,
            split=split_of(fields.get("split", ""), name),
            sequence=fields.get("sequence"),
            frame=None if frame is None else int(frame),
        )

    return faces_named(source, name_pattern(template), face_of)


def _usual_pattern(source: Path, meaning: Labels) -> str:
    """The pattern of class folders; none where labels.csv tells. ValueError for other folders."""
    names = [folder.name for folder in visible(source) if folder.is_dir()]
    if meaning.know(names):
        return "{expression}/*"
    if names and all(name.lower() in SPLITS for name in names):
        return "{split}/{expression}/*"
    if (source / OWN_TABLE).exists():
        return ""
    found = ", ".join(names)[:200] or "no folder"
    raise ValueError(
        f"{source} holds {found}; {NAME} needs folders named after expressions (or parts of a "
        "split with such folders), or one of the options pattern and table: see `mien corpora`"
    )


def _images(source: Path, images: str) -> Path:
    """The folder that a table's files lie below; ValueError where it is outside of the source."""
    folder = source / images
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(source)):
        raise ValueError(
            f"option images '{images}': outside of the source {source}; valid: a folder in it"
        )
    return folder


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _rows(
    source: Path,
    table: Path,
    columns: _Columns,
    meaning: Labels,
    delimiter: str,
) -> Iterator[tuple[int, SourceFace | Rejection]]:
    """Line and face of each row, or that `labels` leaves it out."""
    if not table.exists():
        raise ValueError(f"no table {table}; valid: a file below the source")
    delimiter = "\t" if delimiter == "tab" else delimiter
    for line, row in table_rows(source, table, columns.needed(), delimiter=delimiter):
        where = f"{table}, line {line}"
        file, label = row[columns.file], row[columns.expression]
        expression = meaning.of(label, where) if label else None
        if label and expression is None:
            yield line, Rejection(name=file, reason=LEFT_OUT, detail=f"line {line}")
            continue
        intensity = _number(row, columns.intensity, where)
        if intensity is not None and not 0 <= intensity <= 1:
            raise ValueError(f"{where}: intensity {intensity:g}; valid: 0 to 1")
        numbers = {name: _number(row, name, where) for name in columns.attributes}
        yield (
            line,
            SourceFace(
                name=file,
                subject=row.get(columns.subject) or None,
                expression=expression,
                split=split_of(row.get(columns.split, ""), where),
                sequence=row.get(columns.sequence) or None,
                frame=_frame(row, columns.frame, where),
                intensity=intensity,
                landmarks_L3=_points([_number(row, name, where) for name in columns.landmarks]),
                attributes={name: value for name, value in numbers.items() if value is not None},
            ),
        )


def _number(row: Mapping[str, str], name: str, where: str) -> float | None:
    """The number in a cell; None for an empty one or no such column."""
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"{where}: {name} '{text[:40]}' is no number")
    return value


def _frame(row: Mapping[str, str], name: str, where: str) -> int | None:
    """The frame in a cell, as `_number`; how large it may be is `sound`'s matter."""
    value = _number(row, name, where)
    if value is not None and not value.is_integer():
        raise ValueError(f"{where}: {name} {value:g}; valid: a whole number")
    return None if value is None else int(value)


def _points(values: list[float | None]) -> np.ndarray | None:
    """Landmarks with full confidence; None where one is not told, or they are none of a face."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    points_L2 = np.reshape(known, (-1, 2))
    if (points_L2 == NOT_TOLD).all(axis=1).any():
        return None
    return face_points(points_L2, len(points_L2))

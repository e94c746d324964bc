"""A folder of photographs with a table of their subjects and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from data_service.corpora._files import existing_folder, listed_faces
from data_service.corpora._tables import table_rows
from data_service.schema import Expression, Scan, SourceFace

NAME = "photos"
DESCRIPTION = "Photographs of your own, listed in labels.csv"
LAYOUT = """\
SOURCE/
  labels.csv        file,subject,expression
                    images/anna_1.jpg,anna,happiness
  images/...        JPEG, PNG, BMP, TIFF or still GIF, at most 16 megapixels
expression: anger, contempt, disgust, fear, happiness, neutral, sadness or surprise
subject: any name; leave it empty where it is not known"""
EXPECTED: Mapping[str, int] = {}
LEFT_ALONE = ("labels.csv",)
COLUMNS = ("file", "subject", "expression")


def scan(source: Path | None) -> Scan:
    """The faces that labels.csv lists.

    ValueError for a folder without labels.csv, a missing column, an unknown expression.
    """
    source = existing_folder(source, NAME, "a folder with labels.csv")
    table = source / "labels.csv"
    if not table.exists():
        raise ValueError(f"no labels.csv in {source}; its header must be {','.join(COLUMNS)}")
    return listed_faces(source, table, _rows(source, table), EXPECTED)


def _rows(source: Path, table: Path) -> Iterator[tuple[int, SourceFace]]:
    for line, row in table_rows(source, table, COLUMNS):
        try:
            expression = Expression.parse(row["expression"])
        except ValueError as error:
            raise ValueError(f"{table}, line {line}: {error}") from None
        subject = row["subject"] or None
        yield line, SourceFace(name=row["file"], subject=subject, expression=expression)

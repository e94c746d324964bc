"""github.com/muxspace/facial_expressions: pictures gathered by students, many under LFW names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_service.corpora._files import existing_folder, listed_faces
from data_service.corpora._labels import WORDS
from data_service.corpora._tables import table_lines
from data_service.schema import Scan, SourceFace

NAME = "muxspace"
DESCRIPTION = "muxspace/facial_expressions: pictures that students gathered, 8 expressions"
LAYOUT = """\
SOURCE/             a clone of github.com/muxspace/facial_expressions
  data/legend.csv   user.id,image,emotion
                    302,Aaron_Guiel_0001.jpg,happiness
  images/Aaron_Guiel_0001.jpg
subject: Aaron_Guiel; unknown for pictures without such a name (user.id is who added the picture)"""
EXPECTED: Mapping[str, int] = {}
LEFT_ALONE = ("data/legend.csv",)
HEADER = ["user.id", "image", "emotion"]
LFW_NAME = re.compile(r"(?P<subject>.+)_\d{4}\.[^.]+")


def scan(source: Path | None) -> Scan:
    """The faces that the legend lists.

    ValueError for a folder without the legend, another header, an unknown emotion.
    """
    source = existing_folder(source, NAME, "a clone with data/legend.csv and images/")
    legend = source / "data" / "legend.csv"
    if not legend.exists():
        raise ValueError(f"no data/legend.csv in {source}; {NAME} has data/legend.csv and images/")
    return listed_faces(source / "images", legend, _rows(source, legend), EXPECTED)


def _rows(source: Path, legend: Path) -> Iterator[tuple[int, SourceFace]]:
    """The rows of the legend. Some are separated by tabs and not by commas."""
    for line, text in enumerate(map(str.rstrip, table_lines(source, legend)), start=1):
        cells = [cell.strip().strip('"') for cell in re.split(r"[,\t]", text)]
        if line == 1 and cells != HEADER:
            raise ValueError(f"{legend}, line 1: header '{text}'; valid: {','.join(HEADER)}")
        if line == 1 or not text.strip():
            continue
        if len(cells) != len(HEADER):
            raise ValueError(
                f"{legend}, line {line}: {len(cells)} columns; valid: {','.join(HEADER)}"
            )
        _, file, emotion = cells
        expression = WORDS.get(emotion.lower())
        if expression is None:
            valid = ", ".join(WORDS)
            raise ValueError(f"{legend}, line {line}: unknown emotion '{emotion}'; valid: {valid}")
        match = LFW_NAME.fullmatch(file)
        subject = match["subject"] if match else None
        yield line, SourceFace(name=file, subject=subject, expression=expression)

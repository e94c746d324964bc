"""RAF-DB in little: both kinds of picture, points for the original ones, one picture gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_service.corpora.rafdb import CODES
from tests.corpora.pictures import face, write

POINTS = "36.5\t40.0\n60.0\t40.5\n48.0\t55.0\n38.0\t68.0\n58.0\t68.5\n0\n1\n2\n"


def listed() -> Iterator[tuple[str, int]]:
    """Names and codes, as the owners number them: five digits in one part, four in the other."""
    for number in range(21):
        yield f"train_{number + 1:05d}", 1 + number % 7
    for number in range(14):
        yield f"test_{number + 1:04d}", 1 + number % 7


def build(root: Path) -> Path:
    basic = root / "basic"
    lines = []
    for number, (stem, code) in enumerate(listed()):
        lines.append(f"{stem}.jpg {code}")
        picture = face(number, CODES[code])
        write(basic / "Image" / "aligned" / f"{stem}_aligned.jpg", picture)
        write(basic / "Image" / "original" / f"{stem}.jpg", picture)
        write(basic / "Annotation" / "manual" / f"{stem}_manu_attri.txt", POINTS)
    lines.append("test_0015.jpg 3")
    write(basic / "EmoLabel" / "list_patition_label.txt", "\r\n".join(lines) + "\r\n")
    return root


def build_folders(root: Path) -> Path:
    """The form with a folder for each code."""
    for number, (stem, code) in enumerate(listed()):
        folder = root / "DATASET" / stem.partition("_")[0] / str(code)
        write(folder / f"{stem}_aligned.jpg", face(number, CODES[code]))
    return root

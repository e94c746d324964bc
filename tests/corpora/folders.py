"""A collection of one's own: a split, folders of expressions, and what people leave there."""

from __future__ import annotations

from pathlib import Path

from data_service.schema import Expression
from tests.corpora.pictures import face, write

FOLDERS = {"Happy": Expression.HAPPINESS, "sad": Expression.SADNESS, "Neutral": Expression.NEUTRAL}


def build(root: Path) -> Path:
    """Twelve people, each with one picture in each folder; the last four are the test part."""
    for person in range(12):
        part = "test" if person >= 8 else "Train"
        for at, (folder, expression) in enumerate(FOLDERS.items()):
            name = ("émile {}.jpg", "b {}.PNG", "c{}.jpeg")[at].format(person)
            write(root / part / folder / name, face(person, expression))
    write(root / "Train" / "Happy" / "Thumbs.db", b"no picture")
    write(root / "Train" / "Happy" / ".DS_Store", b"")
    write(root / "README.txt", "pictures of my friends")
    return root

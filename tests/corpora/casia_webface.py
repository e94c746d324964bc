"""CASIA-WebFace in little: folders of digits, the list of names, a file that is no picture."""

from __future__ import annotations

from pathlib import Path

from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    """Eight identities with three pictures each."""
    top = root / "CASIA-WebFace"
    for person in range(8):
        for number, expression in enumerate(list(Expression)[:3]):
            write(
                top / f"{45 + person:07d}" / f"{number + 1:03d}.jpg",
                face(person, expression, number),
            )
    write(top / "names.txt", "0000045 Somebody\n")
    write(top / "0000045" / "004.jpg", b"")
    write(top / "readme" / "001.jpg", b"picture")
    return root

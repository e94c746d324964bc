"""KDEF in little: both sessions, three views, wrong names that circulate, a picture twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_service.corpora.kdef import LETTERS
from tests.corpora.pictures import face, write

SUBJECTS = ("F01", "F02", "F35", "M01", "M09", "M31")


def build(root: Path) -> Path:
    """Six subjects in two sessions, frontal; the first two also from the side."""
    top = root / "KDEF_and_AKDEF" / "KDEF"
    for person, subject in enumerate(SUBJECTS):
        for session in "AB":
            folder = top / f"{session}{subject}"
            for letters, expression in LETTERS.items():
                picture = np.full((190, 140, 3), 120, np.uint8)
                picture[40:136, 22:118] = face(person, expression, "AB".index(session))
                write(folder / f"{session}{subject}{letters}S.JPG", picture)
                if person < 2 and session == "A":
                    write(folder / f"{session}{subject}{letters}HL.JPG", picture)
                    write(folder / f"{session}{subject}{letters}FR.jpg", picture[:, ::-1])
    write(top / "AF01" / "AF31V.JPG", b"picture")
    write(top / "AF01" / "AF36ANS.JPG", b"picture")
    write(top / "copies" / "AF01ANS.JPG", b"picture")
    write(top / "AF01" / "Thumbs.db", b"")
    return root

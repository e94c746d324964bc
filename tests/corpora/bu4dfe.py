"""BU-4DFE in little: textures beside meshes, the viewer, landmarks, sequences broken and double."""

from __future__ import annotations

from pathlib import Path

from data_service.corpora.bu4dfe import FOLDERS
from data_service.schema import Expression
from tests.corpora.pictures import face, write

SUBJECTS = ("F001", "F002", "F058", "M001", "M043")
FRAMES = 9


def build(root: Path) -> Path:
    """Five subjects; from neutral over the peak in frame 4 back to neutral."""
    for person, subject in enumerate(SUBJECTS):
        for folder, expression in FOLDERS.items():
            for frame in range(FRAMES):
                shown = expression if 2 <= frame <= 6 else Expression.NEUTRAL
                files = root / "BU4DFE" / subject / folder.capitalize()
                write(files / f"{frame:03d}.jpg", face(person, shown, frame % 2))
                write(files / f"{frame:03d}.mtl", "newmtl")
                write(files / f"{frame:03d}.obj", "v 0 0 0")
            bound = root / "BU4DFE_BND_V1.1" / subject / folder.capitalize()
            write(bound / "000.bnd", "0 1.0 2.0 3.0\n")
    write(root / "BU4DFE" / "M043" / "Happy" / "000.bnd", "0 1.0 2.0 3.0\n")
    write(root / "BU4DFE" / "BU_WrlViewer_V2" / "F003" / "Angry" / "000.jpg", b"picture")
    for path in (root / "BU4DFE" / "F002" / "Sad").glob("*.jpg"):
        path.unlink()
    for frame in range(5):  # frames that were lost: the middle is told by the numbers
        (root / "BU4DFE" / "M001" / "Happy" / f"{frame + 1:03d}.jpg").unlink()
    write(root / "again" / "F001" / "Angry" / "000.jpg", b"picture")
    return root

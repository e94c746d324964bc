"""SFEW 2.0 in little: aligned faces as the zips unpack them, and frames of films."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_service.corpora.sfew import FOLDERS
from tests.corpora.pictures import face, write

ALIGNED = {
    "Train": "Train/Train_Aligned_Faces/Train_Aligned_Faces",
    "Val": "Val/Val_Aligned_Faces_new",
}


def build(root: Path) -> Path:
    for part, count in (("Train", 3), ("Val", 2)):
        for name, expression in FOLDERS.items():
            for number in range(count):
                file = f"Airheads_{number:09d}_00000005.png"
                picture = face(number + 10 * count, expression)
                tall = np.pad(picture, ((12, 12), (0, 0), (0, 0)), mode="edge")
                write(root / ALIGNED[part] / name.capitalize() / file, tall)
                wide = np.pad(picture, ((0, 0), (40, 40), (0, 0)), mode="edge")
                write(root / part / name.capitalize() / file, wide)
    write(root / "Train" / "Angry" / "Thumbs.db", "")
    write(root / "Test" / "Test_Aligned_Faces" / "1.png", face(0, FOLDERS["sad"]))
    return root

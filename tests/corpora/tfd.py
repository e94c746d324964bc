"""TFD in little: one .mat file, with faces that have no label, and some without a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from data_service.alignment.decode import grey
from data_service.corpora.tfd import CODES
from tests.corpora.pictures import face

PERSONS = 12


def arrays() -> dict[str, np.ndarray]:
    """The variables: three faces of each person, then unlabelled ones."""
    images, codes, persons, folds = [], [], [], []
    for person in range(PERSONS):
        for number in range(3):
            code = 1 + (person + number) % 7
            images.append(grey(face(person, CODES[code], size=48))[..., 0])
            codes.append(code)
            persons.append(person if person < 10 else -1)
            folds.append([1 + (person + fold) % 3 for fold in range(5)])
    for person in range(4):
        images.append(grey(face(person, CODES[7], 5, size=48))[..., 0])
        codes.append(-1)
        persons.append(-1)
        folds.append([0] * 5)
    return {
        "images": np.stack(images),
        "labs_ex": np.array(codes, np.int16)[:, None],
        "labs_id": np.array(persons, np.int16)[:, None],
        "folds": np.array(folds, np.uint8),
    }


def build(root: Path) -> Path:
    save(root, arrays())
    return root


def save(root: Path, variables: dict) -> None:
    """The variables as the owners' file."""
    root.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / "TFD_48x48.mat", variables, do_compression=True)

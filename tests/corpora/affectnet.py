"""AffectNet in little, in both deliveries, with what is wrong in either."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from data_service.corpora import drawn
from data_service.corpora.affectnet import CODES, COLUMNS
from data_service.schema import Expression
from tests.corpora.pictures import face, write

TRAIN, TEST = 24, 16
HEADER = ",".join(COLUMNS)


def points() -> np.ndarray:
    """68 points of a drawn face of 96 px."""
    drawing = drawn.draw(
        subjects=[0], expressions=[Expression.NEUTRAL], intensities=[0.0], size=96, difficulty=0.5
    )
    return drawing.landmarks_BL2[0]


def row(name: str, code: int | str, valence: str = "0.5") -> str:
    """One row of a table."""
    flat = ";".join(f"{value:.2f}" for value in points().ravel())
    return f"{name},10,12,70,70,{flat},{code},{valence},-0.25"


def build(root: Path) -> Path:
    images = root / "Manually_Annotated_compressed" / "Manually_Annotated_Images"
    tables = root / "Manually_Annotated_file_lists"
    lines = [HEADER]
    for number in range(TRAIN):
        name = f"{number % 3}/train{number}.jpg"
        write(images / name, face(number, CODES[number % 8]))
        lines.append(row(name, number % 8))
    write(images / "1" / "none.jpg", face(0, Expression.FEAR))
    write(images / "1" / "odd.jpg", face(1, Expression.FEAR))
    lines += [row("1/none.jpg", code) for code in (8, 9, 10)]
    lines += [
        row("1/gone.jpg", 1),
        row("../out.jpg", 1),
        row("0/train0.jpg", 0),
        row("1/x.jpg", 11),
    ]
    lines.append("1/odd.jpg,NULL,3,-4,5,1;2;x,4,-2,-2")
    write(tables / "training.csv", "\n".join(lines) + "\n")
    lines = []  # some copies have no header
    for number in range(TEST):
        name = f"9/val{number}.png"
        write(images / name, face(100 + number, CODES[number % 8]))
        lines.append(row(name, number % 8))
    write(tables / "validation.csv", "\n".join(lines) + "\n")
    return root


def build_second(root: Path) -> Path:
    """The delivery with a small file for each number."""
    for part, count in (("train_set", TRAIN), ("val_set", TEST)):
        for number in range(count):
            write(root / part / "images" / f"{number}.jpg", face(number, CODES[number % 8]))
            numbers(root / part / "annotations" / f"{number}", number % 8)
    for stem in ("90", "91", "92"):
        write(root / "train_set" / "images" / f"{stem}.jpg", face(0, Expression.FEAR))
    numbers(root / "train_set" / "annotations" / "91", 1)
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write(root / "train_set" / "annotations" / "91_exp.npy", objects.getvalue())
    numbers(root / "train_set" / "annotations" / "92", 8)
    return root


def numbers(start: Path, code: int) -> None:
    """The four files of one picture; numbers are texts in them."""
    values = {
        "exp": np.array(str(code)),
        "val": np.array("0.5"),
        "aro": np.array("-2"),
        "lnd": points().ravel(),
    }
    for kind, value in values.items():
        content = io.BytesIO()
        np.save(content, value)
        write(start.with_name(f"{start.name}_{kind}.npy"), content.getvalue())

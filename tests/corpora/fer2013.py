"""FER2013 in little: the table of pixels, or folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_service.alignment.decode import grey
from data_service.corpora.fer2013 import CODES, FOLDERS
from tests.corpora.pictures import face, write

ROWS = 36
USAGES = ("Training",) * 4 + ("PublicTest", "PrivateTest")


def listed() -> Iterator[tuple[int, int, str]]:
    """Number, code and usage of each row; all of one usage lie together."""
    rows = [(number, number // 6 % 7, USAGES[number % 6]) for number in range(ROWS)]
    order = ("Training", "PublicTest", "PrivateTest")
    yield from sorted(rows, key=lambda row: order.index(row[2]))


def pixels(number: int, code: int) -> str:
    """A face of 48 px as the table has it."""
    small_HW1 = grey(face(number, CODES[code], size=48))
    return " ".join(map(str, small_HW1.ravel().tolist()))


def build(root: Path) -> Path:
    lines = ["emotion,pixels,Usage"]
    lines += [f"{code},{pixels(number, code)},{usage}" for number, code, usage in listed()]
    lines += ["3," + " ".join(["0"] * 2304) + ",Training", "3,1 2 3,Training"]
    write(root / "fer2013" / "fer2013.csv", "\n".join(lines) + "\n")
    return root


def build_other(root: Path) -> Path:
    """The table with other columns, and spaces in its header."""
    lines = ["emotion, Usage, pixels"]
    lines += [f"{code},{usage},{pixels(number, code)}" for number, code, usage in listed()]
    write(root / "icml_face_data.csv", "\ufeff" + "\r\n".join(lines))
    return root


def build_challenge(root: Path) -> Path:
    """What the challenge gives out: the training part, and a test part without labels."""
    rows = {usage: [] for usage in USAGES}
    for number, code, usage in listed():
        rows[usage].append((code, pixels(number, code)))
    train = [f"{code},{values}" for code, values in rows["Training"]]
    write(root / "train.csv", "\n".join(["emotion,pixels", *train]) + "\n")
    test = [values for usage in USAGES[-2:] for _, values in rows[usage]]
    write(root / "test.csv", "\n".join(["pixels", *test]) + "\n")
    write(root / "example_submission.csv", "emotion\n0\n")
    return root


def build_folders(root: Path) -> Path:
    """The form without the validation part."""
    names = {expression: name for name, expression in FOLDERS.items()}
    for number, code, usage in listed():
        split = "train" if usage == "Training" else "test"
        picture = np.ascontiguousarray(face(number, CODES[code], size=48))
        write(root / split / names[CODES[code]] / f"{number}.png", picture)
    return root

"""Toronto Face Database, TFD (Susskind et al., University of Toronto, TR 2010-001)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from data_service.alignment.decode import UnreadableImageError
from data_service.corpora._arrays import mat_numbers
from data_service.corpora._files import existing_folder, opened, visible
from data_service.schema import Expression, Scan, SourceFace

NAME = "tfd"
DESCRIPTION = "TFD: 4,178 labelled grey faces (and 100,000 without label), 7 expressions, 5 folds"
LAYOUT = """\
SOURCE/               a .mat file with these variables, of MATLAB up to version 7.2
  TFD_48x48.mat       or TFD_96x96.mat, TFD_ranzato_48x48.mat
    images            N x 48 x 48, uint8
    labs_ex           N: 1 anger 2 disgust 3 fear 4 happy 5 sad 6 surprise 7 neutral, -1 unlabelled
    labs_id           N: the person, -1 unknown
    folds             N x 5: 1 train, 2 validation, 3 test, 0 or -1 unlabelled
options: fold=1 (of the 5 official ones), side=48, unlabelled=False (take these too, without a
split), transposed=False (for a copy whose faces lie on their side)
The codes were not checked against a copy: look at the faces of each class. Faces are taken as they
are; one of 96 px takes a gigabyte of memory in each process that reads it."""
CODES: Mapping[int, Expression] = {
    1: Expression.ANGER,
    2: Expression.DISGUST,
    3: Expression.FEAR,
    4: Expression.HAPPINESS,
    5: Expression.SADNESS,
    6: Expression.SURPRISE,
    7: Expression.NEUTRAL,
}
EXPECTED: Mapping[str, int] = {"faces": 4_178}
SPLITS: Mapping[int, str] = {1: "train", 2: "validation", 3: "test"}
NUM_FOLDS = 5
LABELS = ("labs_ex", "labs_id", "folds")
MOST_VALUES = 2_000_000_000
LOOKED_AT = 500
"""Faces whose mean tells whether all lie on their side."""


def scan(
    source: Path | None,
    *,
    fold: int = 1,
    side: Literal[48, 96] = 48,
    unlabelled: bool = False,
    transposed: bool = False,
) -> Scan:
    """The labelled faces, split as one of the official folds says.

    ValueError for a folder without such a file, variables of other shapes or codes, and faces that
    lie on their side.
    """
    source = existing_folder(source, NAME, f"a folder with TFD_{side}x{side}.mat")
    if not 1 <= fold <= NUM_FOLDS:
        raise ValueError(f"option fold '{fold}' of {NAME}; valid: 1 to {NUM_FOLDS}")
    path = _file(source, side)
    codes_N, persons_N, parts_N = _labels(path, fold)
    chosen_N = np.flatnonzero((codes_N > 0) | unlabelled)
    images_NSS = _images(path, path.stat().st_mtime_ns)
    if images_NSS.shape != (len(codes_N), side, side):
        raise ValueError(f"{path}: images is {images_NSS.shape}, labs_ex has {len(codes_N)}")
    _check_upright(path, images_NSS[chosen_N[:LOOKED_AT]], transposed)
    faces = tuple(
        SourceFace(
            name=f"{path.stem}/{row:06d}",
            subject=f"person {persons_N[row]}" if persons_N[row] >= 0 else None,
            expression=CODES.get(int(codes_N[row])),
            path=path,
            split=SPLITS.get(int(parts_N[row])),
            options={"row": int(row), "transposed": transposed},
        )
        for row in chosen_N
    )
    return Scan(faces=faces, expected={} if unlabelled else EXPECTED, aligned=True)


def read_pictures(
    path: Path, faces: Sequence[SourceFace]
) -> Iterator[np.ndarray | UnreadableImageError]:
    """Faces out of the array, uint8 S x S x 3."""
    try:
        images_NSS = _images(path, path.stat().st_mtime_ns)
    except ValueError as error:
        raise UnreadableImageError("damaged .mat file", str(error)) from error
    for face in faces:
        grey_SS = images_NSS[face.options["row"]]
        grey_SS = grey_SS.T if face.options["transposed"] else grey_SS
        yield np.repeat(grey_SS[..., None], 3, axis=2)


def _file(source: Path, side: int) -> Path:
    """The file of that size; ValueError where there is none, or more than one."""
    found = [
        path
        for path in visible(source)
        if path.suffix.lower() == ".mat" and f"{side}x{side}" in path.name
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or f"no *{side}x{side}*.mat"
        raise ValueError(f"{names} in {source}; {NAME} needs one TFD_{side}x{side}.mat")
    opened(source, found[0]).close()
    return found[0]


def _labels(path: Path, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, persons and parts of one fold, int64 N; code 0 where a face has no label."""
    found = mat_numbers(path, LABELS, MOST_VALUES)
    codes_N, persons_N = found["labs_ex"].ravel(), found["labs_id"].ravel()
    folds_NF = found["folds"]
    if folds_NF.shape != (len(codes_N), NUM_FOLDS) or len(persons_N) != len(codes_N):
        raise ValueError(
            f"{path}: labs_ex has {len(codes_N)} values, labs_id {len(persons_N)}, folds the "
            f"shape {folds_NF.shape}; valid: N, N, N x {NUM_FOLDS}"
        )
    codes_N = np.where(codes_N < 0, 0, codes_N).astype(np.int64)
    if unknown := sorted(set(np.unique(codes_N).tolist()) - {0, *CODES}):
        valid = ", ".join(f"{code} {expression}" for code, expression in CODES.items())
        raise ValueError(f"{path}: labs_ex has {unknown[0]}; valid: {valid}, -1 unlabelled")
    return codes_N, persons_N.astype(np.int64), folds_NF[:, fold - 1].astype(np.int64)


@lru_cache(maxsize=1)
def _images(path: Path, modified_ns: int) -> np.ndarray:
    """The array of all faces, uint8 N x S x S; it stays in memory for the next call."""
    images_NSS = mat_numbers(path, ("images",), MOST_VALUES)["images"]
    if images_NSS.dtype != np.uint8 or images_NSS.ndim != 3:
        raise ValueError(
            f"{path}: images is {images_NSS.dtype} {images_NSS.shape}; valid: uint8 N x S x S"
        )
    return images_NSS


def _check_upright(path: Path, images_NSS: np.ndarray, transposed: bool) -> None:
    """ValueError where the mean face is more alike upside down than in a mirror."""
    if not len(images_NSS):
        return
    mean_SS = images_NSS.mean(axis=0)
    mean_SS = mean_SS.T if transposed else mean_SS
    mirrored = np.abs(mean_SS - mean_SS[:, ::-1]).mean()
    turned = np.abs(mean_SS - mean_SS[::-1]).mean()
    if turned < mirrored:
        raise ValueError(
            f"{path}: the faces lie on their side; valid: --option transposed={not transposed}"
        )

"""Toronto Face Database, TFD (Susskind et al., University of Toronto, TR 2010-001)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cluster.lock import held
from data_service.alignment.decode import UnreadableImageError
from data_service.corpora._arrays import mat_numbers, mat_variable
from data_service.corpora._files import existing_folder, opened, visible
from data_service.corpora._mat import Variable, pieces, variables
from data_service.lakes.manifest import blake
from data_service.lakes.unpacked import cache_dir
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
are; all are unpacked into the cache of each machine that reads them, a gigabyte at 96 px."""
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
MOST_LABELS = 5_000_000
MOST_PIXELS = 2_000_000_000
TOGETHER = 512
"""Faces that are read at once."""
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
    images = _images(path)
    if images.shape != (len(codes_N), side, side):
        raise ValueError(f"{path}: images is {images.shape}, labs_ex has {len(codes_N)}")
    first_NSS = _faces(_unpacked(path), images.shape, chosen_N[:LOOKED_AT])
    _check_upright(path, first_NSS, transposed)
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
        images, file = _images(path), _unpacked(path)
    except ValueError as error:
        raise UnreadableImageError("damaged .mat file", str(error)) from error
    for start in range(0, len(faces), TOGETHER):
        together = faces[start : start + TOGETHER]
        rows_N = np.array([face.options["row"] for face in together])
        for face, grey_SS in zip(together, _faces(file, images.shape, rows_N), strict=True):
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
    found = mat_numbers(path, LABELS, MOST_LABELS)
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


def _images(path: Path) -> Variable:
    """What is told of the array of all faces, uint8 N x S x S."""
    images = mat_variable(path, variables(path), "images", MOST_PIXELS)
    if images.kind != "uint8" or len(images.shape) != 3:
        raise ValueError(f"{path}: images is {images.kind} {images.shape}; valid: uint8 N x S x S")
    return images


def _unpacked(path: Path) -> Path:
    """The array of all faces in this machine's cache, written once, in MATLAB's order."""
    images, state = _images(path), path.stat()
    told = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    folder = cache_dir() / blake(f"tfd {told}".encode()).hexdigest()
    file, num_bytes = folder / "faces.bin", math.prod(images.shape)
    if not _has_size(file, num_bytes):
        with held(folder / "lock"):
            if not _has_size(file, num_bytes):
                draft = file.with_suffix(".draft")
                with draft.open("wb") as sink:
                    for piece_N in pieces(path, images):
                        sink.write(piece_N.astype(np.uint8).tobytes())
                os.replace(draft, file)
    return file


def _has_size(file: Path, num_bytes: int) -> bool:
    return file.is_file() and file.stat().st_size == num_bytes


def _faces(file: Path, shape: tuple[int, ...], rows_N: np.ndarray) -> np.ndarray:
    """Some faces out of the unpacked array, uint8 N x S x S.

    In MATLAB's order a pixel of all faces comes before the next pixel, so that of each one only the
    part from the first to the last of the faces is read.
    """
    count, side, _ = shape
    found_PN = np.empty((side * side, len(rows_N)), np.uint8)
    if len(rows_N):
        first, span = int(rows_N.min()), int(np.ptp(rows_N)) + 1
        with file.open("rb", buffering=0) as unpacked:
            for pixel in range(side * side):
                part = os.pread(unpacked.fileno(), span, pixel * count + first)
                found_PN[pixel] = np.frombuffer(part, np.uint8)[rows_N - first]
    return found_PN.reshape(side, side, len(rows_N)).transpose(2, 1, 0)


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

"""Arrays out of untrusted files: numbers and texts only, never objects, checked before loading."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
from numpy.lib import format as npy

from data_service.alignment.ordinary import open_ordinary
from data_service.corpora._files import read_small

MAX_SMALL_BYTES = 1 << 16
VERSIONS = (b"\x00\x01IM", b"\x01\x00MI")
"""How the header of a .mat file of MATLAB 5 to 7.2 ends, by byte order."""
NUMBERS = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)) | {
    "single",
    "double",
    "logical",
}
"""The classes of MATLAB variables that hold nothing but numbers."""


def small_numbers(source: Path, path: Path) -> np.ndarray:
    """The numbers of a small .npy file, float64, also where it keeps them as texts.

    ValueError, in a few words, for anything else, objects first of all; they are not unpickled.
    RefusedFileError where there is no such file to be read.
    """
    content = read_small(source, path, MAX_SMALL_BYTES)
    file = io.BytesIO(content)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in read_header:
        raise ValueError("unknown version of .npy")
    shape, _, kind = read_header[version](file)
    if kind.kind not in "biufSU":
        raise ValueError("objects instead of numbers" if kind.hasobject else f"type {kind}")
    count = math.prod(shape)
    rest = content[file.tell() :]
    if count * kind.itemsize != len(rest):
        raise ValueError("cut short")
    return np.frombuffer(rest, kind, count).astype(np.float64)


def mat_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and class of every variable of a .mat file of version 5 to 7.2, without loading any.

    ValueError for a file of another version, such as 7.3, which is HDF5, and for no .mat file.
    """
    try:
        with open_ordinary(path) as file:
            if file.read(128)[124:] not in VERSIONS:
                raise ValueError("not of MATLAB 5 to 7.2; save it with -v7")
            file.seek(0)
            return {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(file)}
    except Exception as error:  # readers of damaged files raise nearly every type there is
        raise ValueError(f"{path} is no .mat file that can be read: {error}") from None


def mat_numbers(path: Path, names: Sequence[str], most_values: int) -> dict[str, np.ndarray]:
    """The variables of those names; ValueError where one is missing, too large or not of numbers.

    Only these are loaded. Cells, structures and objects are refused before anything is read.
    """
    shapes = mat_shapes(path)
    for name in names:
        if name not in shapes:
            raise ValueError(f"{path} has no variable {name}; it has {', '.join(shapes) or 'none'}")
        shape, kind = shapes[name]
        if kind not in NUMBERS:
            raise ValueError(f"{path}: {name} is a {kind}; valid: numbers")
        if math.prod(shape) > most_values:
            raise ValueError(f"{path}: {name} has the shape {shape}; at most {most_values} values")
    try:
        loaded = scipy.io.loadmat(path, variable_names=list(names))
        return {name: np.asarray(loaded[name]) for name in names}
    except Exception as error:
        raise ValueError(f"{path} is damaged: {error}") from None

"""Arrays out of untrusted files: numbers and texts only, never objects, checked before loading."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from data_service.corpora._files import read_small
from data_service.corpora._mat import Variable, pieces, variables

MAX_SMALL_BYTES = 1 << 16


def small_numbers(source: Path, path: Path) -> np.ndarray:
    """The numbers of a small .npy file, float64, also where it keeps them as texts.

    ValueError, in a few words, for anything else, objects first of all; they are not unpickled.
    RefusedFileError where there is no such file to be read.
    """
    content = read_small(source, path, MAX_SMALL_BYTES)
    try:
        return _numbers(content)
    except ValueError:
        raise
    except Exception as error:  # numpy's reader of headers raises nearly every type there is
        raise ValueError(f"no array that can be read: {type(error).__name__}") from error


def _numbers(content: bytes) -> np.ndarray:
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


def mat_variable(path: Path, found: Mapping[str, Variable], name: str, most: int) -> Variable:
    """The variable of that name; ValueError where it is missing, too large or not of numbers."""
    if name not in found:
        raise ValueError(f"{path} has no variable {name}; it has {', '.join(found) or 'none'}")
    variable = found[name]
    if not variable.is_numbers:
        raise ValueError(f"{path}: {name} is a {variable.kind}; valid: numbers")
    if math.prod(variable.shape) > most:
        raise ValueError(f"{path}: {name} has the shape {variable.shape}; at most {most} values")
    return variable


def mat_numbers(path: Path, names: Sequence[str], most_values: int) -> dict[str, np.ndarray]:
    """The variables of those names; ValueError where one is missing, too large or not of numbers.

    All are checked before any is read.
    """
    found = variables(path)
    wanted = {name: mat_variable(path, found, name, most_values) for name in names}
    return {name: _array(path, one) for name, one in wanted.items()}


def _array(path: Path, one: Variable) -> np.ndarray:
    found = [np.empty(0, one.kind), *(piece.astype(one.kind) for piece in pieces(path, one))]
    return np.concatenate(found).reshape(one.shape, order="F")

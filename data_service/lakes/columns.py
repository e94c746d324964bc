"""The optional columns of a lake as arrays: one row for each face, NaN where nothing is known.

Shapes: N rows, L landmarks, A attributes, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data_service.schema import Expression

TURNED_BY_MIRRORS = ("yaw", "roll")
"""Attributes whose sign a mirror changes."""


def intensities(table: pa.Table) -> np.ndarray:
    """Float32 [N]."""
    return np.array(table["intensity"].to_numpy(), np.float32)


def landmarks(table: pa.Table, count: int | None = None) -> np.ndarray:
    """Float32 [N, L, 3]: x, y, confidence in pixels of the face; ValueError where L varies.

    L is `count` where that is given and no face has landmarks.
    """
    values = table["landmarks"].to_pylist()
    lengths = {len(value) for value in values if value} or ({3 * count} if count else set())
    if len(lengths) != 1:
        raise ValueError("landmarks are asked for, but the lake's faces have none, or not the same")
    length = lengths.pop()
    unknown = np.full(length, np.nan, np.float32)
    return np.array([value or unknown for value in values], np.float32).reshape(-1, length // 3, 3)


def attributes(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Float32 [N, A]: the attributes of those names."""
    return _from_maps(table["attributes"], names, np.nan)


def mirrored_attributes(
    values_BA: np.ndarray, names: Sequence[str], flip_B: np.ndarray
) -> np.ndarray:
    """The attributes of faces of which some are mirrored: yaw and roll then turn round."""
    sign_A = np.array([-1.0 if name in TURNED_BY_MIRRORS else 1.0 for name in names], np.float32)
    return np.where(flip_B[:, None], values_BA * sign_A, values_BA)


def votes(table: pa.Table, classes: Sequence[Expression]) -> np.ndarray:
    """Float32 [N, K]: how many voted for each class; zeros where nobody did."""
    return _from_maps(table["votes"], [str(one) for one in classes], 0.0)


def _from_maps(column: pa.ChunkedArray, names: Sequence[str], missing: float) -> np.ndarray:
    place = {name: index for index, name in enumerate(names)}
    found_NA = np.full((len(column), len(names)), missing, np.float32)
    for row, pairs in enumerate(column.to_pylist()):
        for name, value in pairs or ():
            if name in place:
                found_NA[row, place[name]] = value
    return found_NA

"""Pictures of a sealed pool: faces that the gate let pass and faces that it refused.

Shapes: P pairs, H height, W width of two faces side by side.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from data_service.lakes.lake import Lake
from data_service.synthesis.parts import faces_of
from data_service.synthesis.pool import SealedPool
from trainer.pictures import captioned_faces

PAIRS_OF_A_CLASS = 4
PER_ROW = 8


def pool_pictures(pool: SealedPool, lake: Lake) -> dict[str, np.ndarray]:
    """By name a picture (uint8 [H, W, 3]) of some admitted and some refused faces, if there are.

    Each stands beside its source; below it the expression that it was to show, and why it was
    refused.
    """
    shape = pool.faces.shape[1:]
    shown = _first_of_each(pool.table["expression"].to_pylist())
    admitted, refused = pool.table.take(shown), pool.refused
    found = {
        "admitted": (admitted, pool.faces[shown], [""] * len(shown)),
        "refused": (refused, faces_of(refused, shape), refused["reason"].to_pylist()),
    }
    return {
        f"synthetic/{name}": _picture(lake, rows, faces_PHWC, reasons)
        for name, (rows, faces_PHWC, reasons) in found.items()
        if rows.num_rows
    }


def _first_of_each(names: list[str]) -> np.ndarray:
    counts, rows = Counter(), []
    for row, name in enumerate(names):
        counts[name] += 1
        if counts[name] <= PAIRS_OF_A_CLASS:
            rows.append(row)
    return np.array(rows, np.int64)


def _picture(lake: Lake, rows: pa.Table, faces_PHWC: np.ndarray, reasons: list[str]) -> np.ndarray:
    sources_PHWC = lake.faces[rows["source_row"].to_numpy()]
    pairs_PHWC = np.concatenate([sources_PHWC, faces_PHWC], axis=2)
    pairs_PHW3 = np.broadcast_to(pairs_PHWC, (*pairs_PHWC.shape[:3], 3))
    captions = [
        f"{expression}\n{reason}" if reason else expression
        for expression, reason in zip(rows["expression"].to_pylist(), reasons, strict=True)
    ]
    return captioned_faces(pairs_PHW3, captions, per_row=PER_ROW)

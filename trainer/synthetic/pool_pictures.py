"""Pictures of a pool: faces that the gate let pass and faces that it refused.

Shapes: P pairs, H height, W width of two faces side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np
import pyarrow as pa

from data_service.lakes.lake import Lake
from data_service.synthesis.live_pool import LivePool
from data_service.synthesis.parts import faces_of
from trainer.pictures import captioned_faces

PAIRS_OF_A_CLASS = 4
PER_ROW = 8


def pool_pictures(
    admitted: pa.Table, faces: np.ndarray | LivePool, refused: pa.Table, lake: Lake
) -> dict[str, np.ndarray]:
    """By name a picture (uint8 [H, W, 3]) of some admitted and some refused faces, if there are.

    `faces` has that of each row of `admitted`; `refused` has its own (EXAMPLE_SCHEMA). Each stands
    beside its source; below it the expression that it was to show, and why it was refused.
    """
    shown = _first_of_each(admitted["expression"].to_pylist())
    kinds = zip(*(refused[name].to_pylist() for name in ("expression", "reason")), strict=True)
    examples = refused.take(_first_of_each(kinds))
    found = {
        "admitted": (admitted.take(shown), [faces[row] for row in shown], [""] * len(shown)),
        "refused": (
            examples,
            list(faces_of(examples, lake.faces.shape[1:])),
            examples["reason"].to_pylist(),
        ),
    }
    return {
        f"synthetic/{name}": _picture(lake, rows, np.stack(pixels), reasons)
        for name, (rows, pixels, reasons) in found.items()
        if rows.num_rows
    }


def _first_of_each(kinds: Iterable[Hashable]) -> np.ndarray:
    """The rows of the first few of each kind."""
    counts, rows = Counter(), []
    for row, kind in enumerate(kinds):
        counts[kind] += 1
        if counts[kind] <= PAIRS_OF_A_CLASS:
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

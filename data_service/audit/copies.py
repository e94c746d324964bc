"""Faces that show the same moment: pixel by pixel the same, or nearly.

Shapes: N faces.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

import numpy as np
import pyarrow as pa

from data_service.audit import candidates
from data_service.audit.findings import Pair
from data_service.audit.pictures import Pictures
from data_service.audit.registration import Face, from_source, likeness

MIN_LIKENESS = 0.93
PATIENCE, MIN_PATIENCE = 0.05, 2000
"""So many pairs in turn, as a share of the faces, may be no copies; then the rest, which is less
alike, is not looked at: of pictures that are alike by chance there are as many as N squared."""


def find_copies(pictures: Pictures, table: pa.Table, image_size: int) -> tuple[Pair, ...]:
    """The pairs, by row; of a group of equal faces each one is paired with the first.

    All that are equal, and of those that are nearly so what `PATIENCE` comes to.

    Frames of one sitting or clip of a known subject are alike by nature, and are pairs only where
    they are equal.
    """
    exact, chosen = _equal(pictures.digests)
    siblings_N = siblings(table)
    found = {(pair.first, pair.second): pair for pair in exact}
    faces = _Faces(pictures, table, image_size)
    # a face that was taken as delivered is its whole picture
    placed_N = np.array(table["alignment"].to_pylist()) != "none"
    with_source = chosen[(pictures.has_source_N & placed_N)[chosen]]
    for by_source, small_NSS, rows in (
        (False, pictures.faces_NSS, chosen),
        (True, pictures.sources_NSS, with_source),
    ):
        if len(rows) > 1:
            pairs = candidates.find(small_NSS, rows, siblings_N)
            for pair in _near(pairs, faces, by_source=by_source, known=found.keys()):
                found[pair.first, pair.second] = pair
    return tuple(sorted(found.values(), key=lambda pair: (pair.first, pair.second)))


def siblings(table: pa.Table) -> np.ndarray:
    """Int64 [N]: one number for the frames of one sitting or clip of one subject, -1 for none."""
    columns = [table[name].to_pylist() for name in ("subject", "sitting", "sequence")]
    numbers: dict[tuple[str, str | None, str | None], int] = {}
    found = np.full(table.num_rows, -1)
    for row, (subject, sitting, sequence) in enumerate(zip(*columns, strict=True)):
        if subject is not None and (sitting is not None or sequence is not None):
            where = (subject, sitting, sequence) if sitting is None else (subject, sitting, None)
            found[row] = numbers.setdefault(where, len(numbers))
    return found


def _equal(digests: np.ndarray) -> tuple[list[Pair], np.ndarray]:
    """Pairs of equal faces, and the rows that stand for all."""
    _, first_U, group_N = np.unique(digests, return_index=True, return_inverse=True)
    first_N = first_U[group_N]
    again = np.flatnonzero(first_N != np.arange(len(digests)))
    pairs = [Pair(first=int(first_N[row]), second=int(row), likeness=1.0) for row in again]
    return pairs, np.sort(first_U)


class _Faces:
    def __init__(self, pictures: Pictures, table: pa.Table, image_size: int) -> None:
        self._pictures = pictures
        self._image_size = image_size
        self._sizes = [table[name].to_pylist() for name in ("source_width", "source_height")]
        self._matrices = table["crop_matrix"]

    def __len__(self) -> int:
        return len(self._pictures.faces_NSS)

    def __getitem__(self, row: int) -> Face:
        small_SS = self._pictures.faces_NSS[row]
        if not self._pictures.has_source_N[row]:
            return Face(face_SS=small_SS, source_SS=None, from_source_33=np.eye(3))
        width, height = (sizes[row] for sizes in self._sizes)
        return Face(
            face_SS=small_SS,
            source_SS=self._pictures.sources_NSS[row],
            from_source_33=from_source(
                np.array(self._matrices[row].as_py()), height, width, self._image_size
            ),
        )


def _near(
    pairs: candidates.Candidates,
    faces: _Faces,
    *,
    by_source: bool,
    known: Container[tuple[int, int]],
) -> Iterator[Pair]:
    patience = max(MIN_PATIENCE, int(PATIENCE * len(faces)))
    in_vain = 0
    for one, other, variant in zip(pairs.first, pairs.second, pairs.variant, strict=True):
        low, high = sorted((int(one), int(other)))
        if (low, high) in known:
            continue
        if in_vain == patience:
            return
        alike = likeness(faces[one], faces[other], int(variant), by_source=by_source)
        in_vain = 0 if alike >= MIN_LIKENESS else in_vain + 1
        if not in_vain:
            mirrored = bool(candidates.VARIANTS[variant][0])
            yield Pair(first=low, second=high, likeness=round(alike, 3), mirrored=mirrored)

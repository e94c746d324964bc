"""Which pictures may show the same: neighbours among compact descriptors, in O(N log N).

A descriptor is a picture as 12 x 12 mean greys without gain and offset, in the 32 directions in
which the pictures at hand differ most, each scaled to unit variance: what all aligned faces share
drops out, and two pictures of different moments are nearly orthogonal. A copy may be mirrored or
cut at any side, so each picture stands in the search as itself and as it would look after that.

Neighbours are found by a forest of random projection trees (Dasgupta and Freund, "Random projection
trees and low dimensional manifolds", STOC 2008): every tree halves the points at the median of a
random direction until few are left, and only those are compared. Trees and leaves have a fixed
size, so that the cost is that of the log2(N) halvings.

Shapes: N pictures, S their side, V variants, P = N V points, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

GRID = 12
DIMENSIONS = 32
CUT = 0.95
"""The share of the side that a cut picture keeps; less and more is found between the variants."""
PLACES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
VARIANTS = tuple(
    (mirrored, *window)
    for mirrored in (False, True)
    for window in ((1.0, 0.0, 0.0), *((CUT, down, right) for down, right in PLACES))
)
"""Mirrored or not, and the window: its share of the side, and how far down and right it lies."""
MIN_COSINE = 0.85
MAX_NEIGHBOURS = 8
"""Of one picture in one leaf, the most alike; more are frames of one film."""
MIN_CONTRAST = 2.0
"""Standard deviation in grey levels below which a picture shows nothing."""

_TREES = 12
_LEAF_POINTS = 1024
_CHUNK = 4096
_SAMPLE = 20_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """Pairs worth a look: picture `first` resembles variant `variant` of picture `second`."""

    first: np.ndarray
    second: np.ndarray
    variant: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def find(pictures_NSS: np.ndarray, chosen: np.ndarray, siblings_N: np.ndarray) -> Candidates:
    """Pairs among the `chosen` pictures (grey uint8), each once, with their most alike variant;
    what is most alike comes first.

    Pictures of one number in `siblings_N` are no pair; -1 has no siblings. With the same pictures
    the same pairs are found.
    """
    points_PD = _points(pictures_NSS, chosen)
    found = [_compared(leaf, points_PD, siblings_N[chosen]) for leaf in _leaves(points_PD)]
    base, other, variant, cosine = (
        np.concatenate(part) for part in zip(*found, (np.empty(0, np.int64),) * 4)
    )
    low, high = np.minimum(base, other), np.maximum(base, other)
    key = low * len(chosen) + high
    order = np.lexsort((variant, base, -cosine, key))
    order = order[np.unique(key[order], return_index=True)[1]]
    order = order[np.argsort(-cosine[order], kind="stable")]
    return Candidates(
        first=chosen[base[order]], second=chosen[other[order]], variant=variant[order]
    )


def _points(pictures_NSS: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The descriptors of all variants of the chosen pictures, unit vectors; of flat ones zero."""
    windows = [_window(pictures_NSS.shape[1], *window) for _, *window in VARIANTS]
    mirrored = [mirror for mirror, *_ in VARIANTS]
    sample = chosen[:: max(1, len(chosen) // _SAMPLE)]
    mean_G, turn_GD = _whitening(_greys(pictures_NSS[sample], windows[:1] * 2, [False, True]))
    points_PD = np.empty((len(chosen) * len(VARIANTS), turn_GD.shape[1]), np.float32)
    for start in range(0, len(chosen), _CHUNK):
        greys_BVG = _greys(pictures_NSS[chosen[start : start + _CHUNK]], windows, mirrored)
        flat_BV1 = ~greys_BVG.any(axis=2, keepdims=True)
        turned_BVD = np.where(flat_BV1, 0, (greys_BVG - mean_G) @ turn_GD)
        length_BV1 = np.maximum(np.linalg.norm(turned_BVD, axis=2, keepdims=True), 1e-9)
        first = start * len(VARIANTS)
        made_PD = (turned_BVD / length_BV1).reshape(-1, turn_GD.shape[1])
        points_PD[first : first + len(made_PD)] = made_PD
    return points_PD


def _window(side: int, share: float, down: float, right: float) -> tuple[np.ndarray, np.ndarray]:
    """What averages a window of a picture to GRID rows and GRID columns (both GRID x side)."""

    def averages(place: float) -> np.ndarray:
        edges = place * (1 - share) * side + np.linspace(0, share * side, GRID + 1)
        pixels = np.arange(side)
        high = np.minimum(edges[1:, None], pixels + 1)
        low = np.maximum(edges[:-1, None], pixels)
        return (np.clip(high - low, 0, None) * GRID / (share * side)).astype(np.float32)

    return averages(down), averages(right)


def _greys(
    pictures_BSS: np.ndarray,
    windows: list[tuple[np.ndarray, np.ndarray]],
    mirrored: list[bool],
) -> np.ndarray:
    """B x V x GRID²: greys without gain and offset; zeros where a picture shows nothing."""
    pictures_BSS = pictures_BSS.astype(np.float32)
    greys_VBGG = []
    for (rows_GS, columns_GS), mirror in zip(windows, mirrored, strict=True):
        grey_BGG = rows_GS @ (pictures_BSS @ columns_GS.T)
        greys_VBGG.append(grey_BGG[:, :, ::-1] if mirror else grey_BGG)
    greys_BVG = np.stack(greys_VBGG, axis=1).reshape(len(pictures_BSS), len(windows), -1)
    greys_BVG -= greys_BVG.mean(axis=2, keepdims=True)
    contrast_BV1 = greys_BVG.std(axis=2, keepdims=True)
    shows_BV1 = contrast_BV1 >= MIN_CONTRAST
    return np.where(shows_BV1, greys_BVG / np.where(shows_BV1, contrast_BV1, 1), 0)


def _whitening(greys_BVG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the matrix to the strongest directions at unit variance (principal components)."""
    greys_PG = greys_BVG.reshape(-1, greys_BVG.shape[2]).astype(np.float64)
    mean_G = greys_PG.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(greys_PG - mean_G, rowvar=False, bias=True))
    strong = np.argsort(-variances)[:DIMENSIONS]
    strong = strong[variances[strong] > 1e-6 * max(float(variances.max()), 1e-12)]
    turn_GD = directions[:, strong] / np.sqrt(variances[strong])
    return mean_G.astype(np.float32), turn_GD.astype(np.float32)


def _leaves(points_PD: np.ndarray) -> Iterator[np.ndarray]:
    """The points (sorted) of every leaf of every tree."""
    shows = np.flatnonzero(points_PD.any(axis=1))
    depth = int(np.ceil(np.log2(max(len(shows), 1) / _LEAF_POINTS))) + 1
    for tree in range(_TREES):
        rng = np.random.default_rng(tree)
        directions_LD = rng.normal(size=(max(depth, 1), points_PD.shape[1])).astype(np.float32)
        heights_LP = directions_LD @ points_PD.T
        left = [(0, shows)]
        while left:
            level, points = left.pop()
            if len(points) <= _LEAF_POINTS:
                yield np.sort(points)
                continue
            middle = len(points) // 2
            order = np.argpartition(heights_LP[level, points], middle)
            left += [(level + 1, points[order[:middle]]), (level + 1, points[order[middle:]])]
        if len(shows) <= _LEAF_POINTS:
            return


def _compared(
    leaf: np.ndarray, points_PD: np.ndarray, siblings_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a leaf: picture, other picture, the other's variant, cosine."""
    bases = leaf[leaf % len(VARIANTS) == 0]
    cosines_BP = points_PD[bases] @ points_PD[leaf].T
    at, to = np.nonzero(cosines_BP >= MIN_COSINE)
    base, (other, variant) = bases[at] // len(VARIANTS), np.divmod(leaf[to], len(VARIANTS))
    known = siblings_N[base] >= 0
    apart = (base != other) & ~(known & (siblings_N[base] == siblings_N[other]))
    base, other, variant = base[apart], other[apart], variant[apart]
    cosine = cosines_BP[at[apart], to[apart]]
    order = np.lexsort((-cosine, base))
    starts = np.searchsorted(base[order], base[order])
    nearest = order[np.arange(len(order)) - starts < MAX_NEIGHBOURS]
    return base[nearest], other[nearest], variant[nearest], cosine[nearest]

"""Rows that were measured on the same faces, in order, and which of them can be told apart.

Shapes: S subjects, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy.stats import t as student_t

from trainer.scorecard import statistics
from trainer.scorecard.intervals import paired_difference, paired_error
from trainer.scorecard.statistics import Difference
from tuning.objectives import is_less_better
from tuning.rows import SIGNIFICANCE, Pair, Row

RANKED_BY = "macro_recall"
LEAST_SWAPS, MOST_SWAPS, SWAPS_PER_PAIR = 2000, 20_000, 100
"""Of the paired test: what is corrected for many pairs needs finer p values."""
PAIRED_ROWS = 12
"""Of how many rows, the best, every two are compared."""


def ordered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of the same folds without predictions, best first by the first of their objectives.

    A rank have those that have that figure, but for trials that did not come to their end: these
    stand behind all others.
    """
    figure = next((row.objectives[0] for row in rows if row.objectives), "")
    sign = 1 if is_less_better(figure) else -1

    def standing(row: Row) -> tuple[bool, bool, float]:
        value = row.value_of(figure)
        return bool(row.ending), value is None, 0.0 if value is None else sign * value

    return tuple(
        replace(row, rank=None if row.ending or row.value_of(figure) is None else place)
        for place, row in enumerate(sorted(rows, key=standing), 1)
    )


def ranked(
    rows: Sequence[Row], counts: Sequence[np.ndarray], seed: int
) -> tuple[tuple[Row, ...], tuple[Pair, ...]]:
    """Best first, each with its paired difference to the best; and the best in pairs.

    `counts` has each row's confusion matrix by subject [S, K, K]. Which is best is chosen by the
    same faces, so that its differences are corrected as those of all pairs (Bonferroni). A tie is
    called a tie.
    """
    order = sorted(range(len(rows)), key=lambda i: -(rows[i].value_of(RANKED_BY) or 0.0))
    rows = [replace(rows[i], rank=place) for place, i in enumerate(order, 1)]
    counts = [counts[i] for i in order]
    if len(rows) < 2:
        return tuple(rows), ()
    num_pairs = len(rows) * (len(rows) - 1) // 2
    swaps = int(np.clip(num_pairs * SWAPS_PER_PAIR, LEAST_SWAPS, MOST_SWAPS))
    behind = [_difference(counts[0], other, swaps, seed) for other in counts[1:]]
    corrected = [min(1.0, difference.p * num_pairs) for difference in behind]
    judged = [
        replace(
            row,
            behind=difference,
            p=float(p),
            verdict="behind" if p < SIGNIFICANCE else "tie",
        )
        for row, difference, p in zip(rows[1:], behind, corrected, strict=True)
    ]
    named = replace(rows[0], verdict="best")
    return (named, *judged), _pairs(counts[:PAIRED_ROWS], behind, seed)


def _difference(first_SKK: np.ndarray, second_SKK: np.ndarray, swaps: int, seed: int) -> Difference:
    """The paired difference; its p goes on below the least that so many swaps can give.

    Where no swap is as extreme as what was found, p is Student's t of the difference over its
    jackknife error: no more than that least p, and no less than all swaps of the subjects could
    give.
    """
    metric = statistics.METRICS[RANKED_BY]
    found = paired_difference(first_SKK, second_SKK, metric, num_swaps=swaps, seed=seed)
    least = 1 / (swaps + 1)
    if found.p > least:
        return found
    value, error, degrees = paired_error(first_SKK, second_SKK, metric)
    tail = 2 * float(student_t.sf(abs(value) / error, degrees)) if error else 0.0
    differing = int(np.any(first_SKK != second_SKK, axis=(1, 2)).sum())
    return replace(found, p=min(least, max(tail, 2.0 ** (1 - differing))))


def _pairs(
    counts: Sequence[np.ndarray], behind: Sequence[Difference], seed: int
) -> tuple[Pair, ...]:
    places = list(combinations(range(len(counts)), 2))
    found = [
        behind[second - 1]
        if first == 0
        else _difference(counts[first], counts[second], LEAST_SWAPS, seed)
        for first, second in places
    ]
    corrected = statistics.holm([difference.p for difference in found])
    return tuple(
        Pair(first=first, second=second, difference=difference, p=float(p))
        for (first, second), difference, p in zip(places, found, corrected, strict=True)
    )

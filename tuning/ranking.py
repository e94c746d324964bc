"""Rows that were tested on the same faces, in order, and which of them can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from trainer.scorecard import statistics
from trainer.scorecard.intervals import paired_difference
from trainer.scorecard.statistics import Difference
from tuning.recorded import Tested
from tuning.rows import SIGNIFICANCE, Pair, Row

RANKED_BY = "macro_recall"
LEAST_SWAPS, MOST_SWAPS, SWAPS_PER_PAIR = 2000, 20_000, 100
"""Of the paired test: what is corrected for many pairs needs finer p values."""
PAIRED_ROWS = 12
"""Of how many rows, the best, every two are compared."""


def ranked(
    rows: Sequence[Row], tests: Sequence[Tested | None], seed: int
) -> tuple[tuple[Row, ...], tuple[Pair, ...]]:
    """Best first, each with its paired difference to the best; and the best in pairs.

    Which is best is chosen by the same faces, so that its differences are corrected as those of all
    pairs (Bonferroni). A tie is called a tie; of more than 45 rows, for which `MOST_SWAPS` are too
    few, all are ties.
    """
    order = sorted(range(len(rows)), key=lambda i: _standing(rows[i]), reverse=True)
    rows, tests = [rows[i] for i in order], [tests[i] for i in order]
    counts = [test.counts_SKK for test in tests if test is not None]
    if len(counts) < len(rows) or len(rows) < 2:
        return tuple(rows), ()
    metric = statistics.METRICS[RANKED_BY]
    num_pairs = len(rows) * (len(rows) - 1) // 2
    swaps = int(np.clip(num_pairs * SWAPS_PER_PAIR, LEAST_SWAPS, MOST_SWAPS))
    behind = [
        paired_difference(counts[0], other, metric, num_swaps=swaps, seed=seed)
        for other in counts[1:]
    ]
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


def _pairs(counts: Sequence, behind: Sequence[Difference], seed: int) -> tuple[Pair, ...]:
    metric = statistics.METRICS[RANKED_BY]
    places = list(combinations(range(len(counts)), 2))
    found = [
        behind[second - 1]
        if first == 0
        else paired_difference(counts[first], counts[second], metric, seed=seed)
        for first, second in places
    ]
    corrected = statistics.holm([difference.p for difference in found])
    return tuple(
        Pair(first=first, second=second, difference=difference, p=float(p))
        for (first, second), difference, p in zip(places, found, corrected, strict=True)
    )


def _standing(row: Row) -> tuple[float, float]:
    tested = row.macro_recall.value if row.macro_recall else -1.0
    return tested, row.validation_macro_recall or -1.0

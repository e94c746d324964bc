"""Rows of one block in order, and which of them can be told apart.

Shapes: S subjects, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy.stats import t as student_t

from trainer.scorecard import statistics
from trainer.scorecard.intervals import paired_difference, paired_error
from trainer.scorecard.statistics import Difference, Metric
from tuning.objectives import is_less_better
from tuning.rows import Pair, Row

PAIRED_BY: Mapping[str, Metric] = {
    "macro_recall": statistics.macro_recall,
    "validation_macro_recall": statistics.macro_recall,
    "accuracy": statistics.accuracy,
    "validation accuracy": statistics.accuracy,
}
"""Figures by which rows are paired, subject by subject."""
LEAST_SWAPS, MOST_SWAPS, SWAPS_PER_PAIR = 2000, 20_000, 100
"""Of the paired test: what is corrected for many pairs needs finer p values."""
CLEAR_P, UNLIKELY = 0.01, 0.001
"""No more swaps where p by the least number of them is above the first, or where Student's t has
fewer than the second as extreme among all."""
PAIRED_ROWS = 12
"""Of how many rows, the best, every two are compared."""


def ordered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of the same folds, best first by the first of their objectives.

    A rank have those that have that figure, but for trials that did not come to their end: these
    stand behind all others.
    """
    figure = ranked_by(rows)
    sign = 1 if is_less_better(figure) else -1

    def standing(row: Row) -> tuple[bool, bool, float]:
        value = row.value_of(figure)
        return bool(row.ending), value is None, 0.0 if value is None else sign * value

    return tuple(
        replace(row, rank=None if row.ending or row.value_of(figure) is None else place)
        for place, row in enumerate(sorted(rows, key=standing), 1)
    )


def ranked_by(rows: Sequence[Row]) -> str:
    """The figure that orders the rows; empty where nothing does."""
    return next((row.objectives[0] for row in rows if row.objectives), "")


def judged(
    rows: Sequence[Row], counts: Sequence[np.ndarray | None], seed: int
) -> tuple[tuple[Row, ...], tuple[Pair, ...]]:
    """Each row with its paired difference to the best, and the best `PAIRED_ROWS` in pairs.

    `rows` are in order, those with a rank first; `counts` has each row's confusion matrix by
    subject [S, K, K], all of the same faces, None where no predictions tell. Rows without them
    count as rivals and get no verdict, and nobody does where the best has none, or where
    `PAIRED_BY` lacks the figure that ranks.

    Rows and pairs are chosen by the same faces that they are tested on. So there is one correction,
    Holm's for every two rows that have a rank: a pair that is not tested counts as one of p = 1,
    which can only make the others' p larger. A tie is called a tie.
    """
    metric = PAIRED_BY.get(ranked_by(rows))
    num_ranked = sum(row.rank is not None for row in rows)
    known = {i: own for i, own in enumerate(counts[:num_ranked]) if own is not None}
    if metric is None or len(known) < 2:
        return tuple(rows), ()
    to_best = [(0, i) for i in known if i] if 0 in known else []
    every_two = list(combinations(list(known)[:PAIRED_ROWS], 2))
    num_pairs = num_ranked * (num_ranked - 1) // 2
    swaps = int(np.clip(num_pairs * SWAPS_PER_PAIR, LEAST_SWAPS, MOST_SWAPS))
    differences = {
        (first, second): _difference(known[first], known[second], metric, swaps, seed)
        for first, second in dict.fromkeys([*to_best, *every_two])
    }
    corrected = statistics.holm([difference.p for difference in differences.values()], num_pairs)
    pairs = {
        place: Pair(first=place[0], second=place[1], difference=difference, p=float(p))
        for (place, difference), p in zip(differences.items(), corrected, strict=True)
    }
    told = list(rows)
    for place in to_best:
        told[place[1]] = _judged(told[place[1]], pairs[place])
    if to_best:
        told[0] = replace(told[0], verdict="best")
    return tuple(told), tuple(pairs[place] for place in every_two)


def _judged(row: Row, pair: Pair) -> Row:
    verdict = "behind" if pair.told_apart else "tie"
    return replace(row, behind=pair.difference, p=pair.p, verdict=verdict)


def _difference(
    first_SKK: np.ndarray, second_SKK: np.ndarray, metric: Metric, swaps: int, seed: int
) -> Difference:
    """The paired difference; its p goes on below the least that so many swaps can give.

    Where no swap is as extreme as what was found, p is Student's t of the difference over its
    jackknife error: no more than that least p, and no less than all swaps of the subjects could
    give. `LEAST_SWAPS` are tried first, and no more where they say that p is no small one, or where
    it is so small that of all `swaps` none would be as extreme.
    """
    found = paired_difference(first_SKK, second_SKK, metric, num_swaps=LEAST_SWAPS, seed=seed)
    if found.p > CLEAR_P:
        return found
    value, error, degrees = paired_error(first_SKK, second_SKK, metric)
    tail = 2 * float(student_t.sf(abs(value) / error, degrees)) if error else 0.0
    differing = int(np.any(first_SKK != second_SKK, axis=(1, 2)).sum())
    tail = max(tail, 2.0 ** (1 - differing))
    tried = LEAST_SWAPS
    if swaps > tried and tail * swaps > UNLIKELY:
        p = statistics.swap_test(first_SKK, second_SKK, metric, num_swaps=swaps, seed=seed)
        found, tried = replace(found, p=p), swaps
    least = 1 / (tried + 1)
    return found if found.p > least else replace(found, p=min(least, tail))

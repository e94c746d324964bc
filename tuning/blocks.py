"""Rows in blocks of those that may be ranked, and what a reader must know of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tuning.ranking import ordered, ranked
from tuning.recorded import Tested
from tuning.rows import SIGNIFICANCE, Block, Row

STRENGTH = ("predictions", "test", "validation")
"""Evidence, the strongest first."""


def blocks_of(
    rows: Sequence[Row], tests: Sequence[Tested | None], lakes: Sequence[str], seed: int
) -> list[Block]:
    """The rows in blocks, the best evidence first; a row's test and the hash of its lake beside it.

    Rows without predictions are ranked with those of the same folds, by the same figure.
    """
    keyed: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, (row, test) in enumerate(zip(rows, tests, strict=True)):
        where = (test.faces,) if test else (*row.objectives[:1], "", *row.folds)
        keyed[lakes[index], row.leaks, row.evidence, *where].append(index)
    blocks = []
    for members in keyed.values():
        own = _with_differing_settings([rows[i] for i in members])
        counts = [test.counts_SKK for i in members if (test := tests[i]) is not None]
        best_first, pairs = ranked(own, counts, seed) if counts else (ordered(own), ())
        first = best_first[0]
        blocks.append(
            Block(
                lake_hash=lakes[members[0]],
                tested=_tested_on(first) if counts else "",
                rows=best_first,
                audit=first.leaks,
                objectives=tuple(dict.fromkeys(name for row in own for name in row.objectives)),
                pairs=pairs,
            )
        )
    return sorted(
        blocks, key=lambda block: (STRENGTH.index(block.rows[0].evidence), -len(block.rows))
    )


def _with_differing_settings(rows: Sequence[Row]) -> list[Row]:
    """Each row with the settings in which it departs from others of the same system and recipe."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    counts = Counter(row.system for row in rows)
    told: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for key, value in row.settings.items():
            values[row.system, key].add(value)
            told[row.system, key] += 1
    differing = {
        place for place in values if len(values[place]) > 1 or told[place] < counts[place[0]]
    }
    return [
        replace(
            row, settings={k: v for k, v in row.settings.items() if (row.system, k) in differing}
        )
        for row in rows
    ]


def _tested_on(row: Row) -> str:
    folds = ", ".join(fold for fold in row.folds if fold)
    return f"{row.num_faces} faces of {row.num_subjects} subjects" + (
        f", folds {folds}" if folds else ""
    )


def notes_of(blocks: Sequence[Block], unfinished: int, trained: int) -> tuple[str, ...]:
    """What a reader must know; `unfinished` of the `trained` runs are in no row."""
    notes = []
    if unfinished:
        notes.append(f"{unfinished} of {trained} runs have not finished and are left out")
    rows = [row for block in blocks for row in block.rows]
    tested = [block for block in blocks if block.tested]
    others = [block for block in blocks if not block.tested]
    if any(row.evidence == "validation" for row in rows):
        notes.append("validation figures have guided choices; only tests on unseen subjects count")
    if any(row.evidence == "test" for row in rows):
        notes.append(
            "rows without test predictions are ordered by a figure, with its interval where there "
            "is one, and no paired test tells ties"
        )
    if any(row.ending == "ended early" for row in rows):
        notes.append("trials that ended early have fewer folds than others")
    if any(row.ending for row in rows):
        notes.append("only trials that came to their end have a rank")
    if len({block.lake_hash for block in tested}) > 1:
        notes.append("rows of different lakes stand apart: their figures must not be compared")
    if len({block.audit for block in blocks}) > 1:
        notes.append(
            "rows that the audit found leaks in stand apart: they are not ranked with others"
        )
    if len({block.tested for block in tested}) < len(tested) or len(tested) > len(
        {block.lake_hash for block in tested}
    ):
        notes.append("rows tested on different faces (folds) stand apart: they are not ranked")
    if len(others) > len({(block.lake_hash, block.rows[0].evidence) for block in others}):
        notes.append("rows of different folds, or ordered by different figures, stand apart")
    if any(row.verdict == "tie" for block in tested for row in block.rows):
        notes.append(
            f"tie: not told apart from the best at {SIGNIFICANCE:.0%} by the paired test over "
            f"subjects (below the least p of its swaps, by Student's t), corrected for all pairs, "
            f"as the best is chosen by the same faces"
        )
    return tuple(notes)

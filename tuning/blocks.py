"""Rows in blocks of those that may be ranked, and what a reader must know of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from trainer.scorecard.intervals import subject_intervals
from tuning.ranking import PAIRED_BY, judged, ordered, ranked_by
from tuning.recorded import Tested
from tuning.rows import SIGNIFICANCE, Block, Row, division_of

STRENGTH = ("predictions", "test", "validation")
"""Evidence, the strongest first."""
SEEN_ROWS = 100
"""Of how many rows of a block, the best, the predictions of validation subjects are read."""


def blocks_of(
    rows: Sequence[Row],
    tests: Sequence[Tested | None],
    lakes: Sequence[str],
    seen_of: Callable[[Row], Tested | None],
    seed: int,
) -> list[Block]:
    """The rows in blocks, the best evidence first; a row's test and the hash of its lake beside it.

    Rows without test predictions are ranked with those of the same folds, by the same figure;
    trials stand with those of the same division into folds, whichever of these they have finished.
    `seen_of` reads what a row said of its validation subjects: they give the best of the rows
    without any test intervals and verdicts.
    """
    keyed: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, (row, test) in enumerate(zip(rows, tests, strict=True)):
        where = (test.faces,) if test else (*row.objectives[:1], "", *_folds(row))
        keyed[lakes[index], row.leaks, row.evidence, *where].append(index)
    blocks = []
    for members in keyed.values():
        best_first = ordered(_with_differing_settings([rows[i] for i in members]))
        first = best_first[0]
        if first.evidence == "validation":
            best_first, found = _with_seen(best_first, seen_of)
        else:
            known = {rows[i].run_ids: tests[i] for i in members}
            found = [known[row.run_ids] for row in best_first]
        counts = [test.counts_SKK if test else None for test in found]
        best_first, pairs = judged(best_first, counts, seed)
        objectives = dict.fromkeys(name for row in best_first for name in row.objectives)
        blocks.append(
            Block(
                lake_hash=lakes[members[0]],
                tested=_tested_on(first) if first.evidence == "predictions" else "",
                rows=best_first,
                audit=first.leaks,
                objectives=tuple(objectives),
                pairs=pairs,
            )
        )
    return sorted(
        blocks, key=lambda block: (STRENGTH.index(block.rows[0].evidence), -len(block.rows))
    )


def _folds(row: Row) -> tuple[str, ...]:
    """A row's folds; of a trial, which may lack some, what they are folds of."""
    if not row.trial:
        return row.folds
    return tuple(dict.fromkeys(division_of(name) if ":" in name else name for name in row.folds))


def _with_seen(
    rows: Sequence[Row], seen_of: Callable[[Row], Tested | None]
) -> tuple[tuple[Row, ...], list[Tested | None]]:
    """Rows in order, the best with intervals over their validation subjects, and what gave them.

    Only those of the same faces as the first that has any can be paired: others have None.
    """
    told, found, faces = list(rows), [], ""
    can_be_paired = ranked_by(rows) in PAIRED_BY
    for place, row in enumerate(rows[:SEEN_ROWS] if can_be_paired else ()):
        seen = seen_of(row) if row.rank else None
        if seen:
            told[place] = _with_intervals(row, seen)
            faces = faces or seen.faces
        found.append(seen if seen and seen.faces == faces else None)
    return tuple(told), found + [None] * (len(rows) - len(found))


def _with_intervals(row: Row, seen: Tested) -> Row:
    bounds = {
        name: (interval.low, interval.high)
        for name, metric in PAIRED_BY.items()
        if name.startswith("validation") and row.value_of(name) is not None
        for interval in subject_intervals(seen.counts_SKK, {name: metric}).values()
    }
    return replace(
        row,
        num_faces=round(seen.counts_SKK.sum()),
        num_subjects=len(seen.subjects),
        figure_bounds={**row.figure_bounds, **bounds},
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
    if any(row.ending for row in rows):
        notes.append(
            "only trials that came to their end have a rank and are tested in pairs; the value of "
            "any other is of the folds that it finished, or the last one of its curve"
        )
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
    return (*notes, *_notes_of_intervals(rows, others))


def _notes_of_intervals(rows: Sequence[Row], others: Sequence[Block]) -> list[str]:
    """What is to be known of intervals and verdicts; `others` are the blocks without a test."""
    notes = []
    if any(row.verdict == "tie" for row in rows):
        notes.append(
            f"tie: not told apart from the best at {SIGNIFICANCE:.0%} by the paired test over "
            f"subjects (below the least p of its swaps, by Student's t), corrected for all pairs "
            f"of ranked rows (Holm), as the best is chosen by the same faces"
        )
    if any(row.num_faces and len(row.folds) > 1 for block in others for row in block.rows):
        notes.append(
            "a trial's figure is the mean over its folds; its interval and its paired test are of "
            "the faces of all folds together"
        )
    if any(sum(row.rank is not None for row in block.rows) > SEEN_ROWS for block in others):
        notes.append(f"only the best {SEEN_ROWS} trials have intervals and are tested in pairs")
    if any((row.num_faces or row.figure_bounds) and len(row.seeds) < 2 for row in rows):
        notes.append(
            "intervals are over subjects, of the networks as trained: where a row has one seed, "
            "they do not tell how far off another would be"
        )
    return notes

"""Runs, folds and trials of an experiment side by side: read from MLflow, with intervals and tests.

Runs of the same settings are one row, whatever their folds and seeds. Rows are ranked only among
those that were tested on the same faces of the same lake; others stand in a block of their own.
Shapes: S subjects, K classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.scorecard.intervals import subject_intervals
from tuning.ranking import ranked
from tuning.recorded import Tested, by_id, mean_metric, open_store, runs_of, tag, tested_of
from tuning.rows import SIGNIFICANCE, Block, Comparison, Row

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
FIRST_WEIGHTS = ("init", "init_only")
"""Tags: what a run started from makes a difference, too."""
INDIFFERENT = ("seed", "engine.", "checkpoint.", "logging.", "data.stream", "data.prefetch")
GATHERING = ("crossval", "study", "trial", "comparison")
OWN_FIGURES = (
    *("accuracy", "macro_", "recall_", "calibration_error"),
    *("images_per_second", "first_step_seconds"),
)
EARLY = " (ended early)"
BOUNDS = ("_low", "_high")
FIGURES = {"test/": "", "final/": "validation "}


def compare(uri: str, experiment: str, *, seed: int = 0) -> Comparison:
    """The finished runs of an experiment, grouped, ranked where that is fair, with paired tests.

    ValueError, in one line, where there is no such experiment or it has no finished run.
    """
    client = open_store(uri)
    runs = [
        run for run in runs_of(client, uri, experiment) if tag(run, "mien.kind") != "comparison"
    ]
    finished = [run for run in runs if run.info.status == "FINISHED"]
    known = by_id(runs)
    rows, tests = [], []
    for group in _groups(finished, known).values():
        test = tested_of(client, group)
        rows.append(_row(group, test, known))
        tests.append(test)
    if not finished:
        raise ValueError(f"no run of the experiment '{experiment}' has finished yet")
    if not rows:
        raise ValueError(
            f"the finished runs of the experiment '{experiment}' have no folds: there are "
            f"{len(finished)}, and none of them is a training by mien"
        )
    keyed: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, test in enumerate(tests):
        first = known[rows[index].run_ids[0]]
        lake, audit = tag(first, "mien.lake_hash"), tag(first, "mien.leaks").replace("none", "")
        keyed[lake, audit, test.faces if test else ""].append(index)
    blocks = []
    for (lake, audit, faces), members in keyed.items():
        own = _with_settings([rows[i] for i in members], known)
        best_first, pairs = ranked(own, [tests[i] for i in members], seed)
        tested = _tested_on(own[0]) if faces else ""
        blocks.append(
            Block(lake_hash=lake, tested=tested, rows=best_first, audit=audit, pairs=pairs)
        )
    blocks.sort(key=lambda block: (not block.tested, -len(block.rows)))
    notes = _notes(runs, finished, blocks)
    return Comparison(experiment=experiment, blocks=tuple(blocks), notes=notes)


def _groups(runs: Sequence[Run], known: Mapping[str, Run]) -> dict[tuple[str, ...], list[Run]]:
    """The runs that trained something, by what they have in common besides fold and seed."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (tag(run, "mien.fold"), run.info.start_time)):
        if tag(run, "mien.kind") in GATHERING or not tag(run, "mien.system"):
            continue
        settings = repr(sorted(_settings(run).items())).encode()
        digest = hashlib.blake2b(settings, digest_size=8).hexdigest()
        division = division_of(tag(run, "mien.fold"))
        groups[
            _system(run), _trial(run, known), tag(run, "mien.lake_hash"), division, digest
        ].append(run)
    return groups


def division_of(fold: str) -> str:
    """What the folds of one cross-validation have in common: of `1/10:2/5` that is `1/10:5`."""
    outer, _, inner = fold.rpartition(":")
    return f"{outer}:{inner.partition('/')[2]}"


def _settings(run: Run) -> dict[str, str]:
    """What makes a difference to the result, other than chance."""
    own = {key: value for key, value in run.data.params.items() if not key.startswith(INDIFFERENT)}
    return own | {key: told for key in FIRST_WEIGHTS if (told := tag(run, f"mien.{key}"))}


def _system(run: Run) -> str:
    return f"{tag(run, 'mien.system')}.{tag(run, 'mien.recipe')}"


def _trial(run: Run, known: Mapping[str, Run]) -> str:
    """The name of the trial that the run belongs to, or nothing; says so where it ended early."""
    ancestor: Run | None = run
    while ancestor is not None:
        if tag(ancestor, "mien.kind") == "trial":
            early = EARLY if ancestor.info.status == "KILLED" else ""
            return f"{ancestor.info.run_name or ancestor.info.run_id}{early}"
        ancestor = known.get(tag(ancestor, PARENT))
    return ""


def _row(group: Sequence[Run], test: Tested | None, known: Mapping[str, Run]) -> Row:
    first = group[0]
    kind = tag(first, "mien.kind")
    row = Row(
        system=_system(first),
        kind=kind,
        trial=_trial(first, known),
        run_ids=tuple(run.info.run_id for run in group),
        folds=tuple(dict.fromkeys(tag(run, "mien.fold") for run in group)),
        seeds=tuple(dict.fromkeys(run.data.params.get("seed", "") for run in group)),
        validation_macro_recall=mean_metric(group, "final/macro_recall", "validation/macro_recall"),
        images_per_second=mean_metric(group, "final/images_per_second", "images_per_second"),
        seconds=sum(_seconds(run) for run in group),
        figures=_other_figures(group),
    )
    if test is None:
        return row
    intervals = subject_intervals(test.counts_SKK)
    return replace(
        row,
        num_faces=round(test.counts_SKK.sum()),
        num_subjects=len(test.subjects),
        accuracy=intervals["accuracy"],
        macro_recall=intervals["macro_recall"],
    )


def _seconds(run: Run) -> float:
    begun, ended = run.info.start_time, run.info.end_time
    return (ended - begun) / 1000 if begun and ended else 0.0


def _other_figures(group: Sequence[Run]) -> dict[str, float]:
    """What a system is measured by besides recognition, such as the accuracy of its edits."""
    figures = {}
    for prefix, shown in FIGURES.items():
        names = {name for run in group for name in run.data.metrics if name.startswith(prefix)}
        for name in sorted(names):
            value = mean_metric(group, name)
            own = name.removeprefix(prefix)
            is_other = not own.startswith(OWN_FIGURES) and not own.endswith(BOUNDS)
            if value is not None and is_other:
                figures[shown + own] = value
    return figures


def _with_settings(rows: Sequence[Row], known: Mapping[str, Run]) -> list[Row]:
    """Each row with the settings in which it departs from others of the same system and recipe."""
    settings = [_settings(known[row.run_ids[0]]) for row in rows]
    values: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    counts = Counter(row.system for row in rows)
    told: Counter[tuple[str, str]] = Counter()
    for row, own in zip(rows, settings, strict=True):
        for key, value in own.items():
            values[row.system, key].add(value)
            told[row.system, key] += 1
    differing = {
        place for place in values if len(values[place]) > 1 or told[place] < counts[place[0]]
    }
    return [
        replace(row, settings={k: v for k, v in own.items() if (row.system, k) in differing})
        for row, own in zip(rows, settings, strict=True)
    ]


def _tested_on(row: Row) -> str:
    folds = ", ".join(fold for fold in row.folds if fold)
    return f"{row.num_faces} faces of {row.num_subjects} subjects" + (
        f", folds {folds}" if folds else ""
    )


def _notes(
    runs: Sequence[Run], finished: Sequence[Run], blocks: Sequence[Block]
) -> tuple[str, ...]:
    notes = []
    unfinished = len(runs) - len(finished)
    if unfinished:
        notes.append(f"{unfinished} of {len(runs)} runs have not finished and are left out")
    tested = [block for block in blocks if block.tested]
    if len(tested) < len(blocks):
        notes.append("validation figures have guided choices; only tests on unseen subjects count")
    if any(row.trial.endswith(EARLY) for block in blocks for row in block.rows):
        notes.append("trials that ended early have fewer folds than others")
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
    if any(row.verdict == "tie" for block in tested for row in block.rows):
        notes.append(
            f"tie: not told apart from the best at {SIGNIFICANCE:.0%} by the paired test over "
            f"subjects, corrected for all pairs, as the best is chosen by the same faces"
        )
    return tuple(notes)

"""Runs, folds and trials of an experiment side by side: read from MLflow, with intervals and tests.

Runs of the same settings are one row, whatever their folds and seeds. Rows are ranked only among
those that were tested on the same faces of the same lake; others stand in a block of their own.
Shapes: S subjects, K classes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainer import statistics
from trainer.statistics import Difference, Interval
from tuning import report
from tuning.recorded import Tested, by_id, mean_metric, open_store, runs_of, tag, tested_of

if TYPE_CHECKING:
    from mlflow.entities import Run
    from rich.console import Group

RANKED_BY = "macro_recall"
SIGNIFICANCE = 0.05
PARENT = "mlflow.parentRunId"
INDIFFERENT = ("seed", "engine.", "checkpoint.", "logging.", "data.stream", "data.prefetch")
GATHERING = ("crossval", "study", "trial")
OWN_FIGURES = (
    *("accuracy", "macro_", "recall_", "calibration_error"),
    *("images_per_second", "first_step_seconds"),
)
FIGURES = {"test/": "", "final/": "validation "}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One setting of one system, over its folds and seeds.

    `behind` is the paired difference to the best row of the block (best minus this one, in mean
    class recall) and `p` its p value, corrected for all rows of the block; None for the best itself
    and where there are no predictions. `verdict` is best, tie, behind, or empty.
    """

    system: str
    kind: str
    trial: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    run_ids: tuple[str, ...]
    folds: tuple[str, ...]
    seeds: tuple[str, ...]
    num_faces: int = 0
    num_subjects: int = 0
    accuracy: Interval | None = None
    macro_recall: Interval | None = None
    validation_macro_recall: float | None = None
    images_per_second: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    behind: Difference | None = None
    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Rows that may be ranked: tested on the same faces of the same lake."""

    lake_hash: str
    tested: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """An experiment's rows in blocks, best first, and what a reader must know of them."""

    experiment: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    estimator: str = "95 % subject bootstrap (expanded percentiles, 2000 resamples)"

    def table(self) -> Group:
        """For the terminal."""
        return report.table(self)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return report.as_json(self)

    def csv(self) -> str:
        """One line per row, one column per figure."""
        return report.csv(self)


def compare(uri: str, experiment: str, *, seed: int = 0) -> Comparison:
    """The finished runs of an experiment, grouped, ranked where that is fair, with paired tests.

    ValueError, in one line, where there is no such experiment or it has no finished run.
    """
    client = open_store(uri)
    runs = runs_of(client, uri, experiment)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    known = by_id(finished)
    rows, tests = [], []
    for group in _groups(finished).values():
        test = tested_of(client, group)
        rows.append(_row(group, test, known, seed))
        tests.append(test)
    if not rows:
        raise ValueError(f"no run of the experiment '{experiment}' has finished yet")
    keyed: dict[tuple[str, str], list[int]] = defaultdict(list)
    lakes = [tag(known[row.run_ids[0]], "mien.lake_hash") for row in rows]
    for index, test in enumerate(tests):
        keyed[lakes[index], test.faces if test else ""].append(index)
    blocks = []
    for (lake, faces), members in keyed.items():
        own = _with_settings([rows[i] for i in members], finished)
        ranked = _ranked(own, [tests[i] for i in members], seed)
        blocks.append(
            Block(lake_hash=lake, tested=_tested_on(own[0]) if faces else "", rows=ranked)
        )
    blocks.sort(key=lambda block: (not block.tested, -len(block.rows)))
    notes = _notes(runs, finished, blocks)
    return Comparison(experiment=experiment, blocks=tuple(blocks), notes=notes)


def _groups(runs: Sequence[Run]) -> dict[tuple[str, ...], list[Run]]:
    """The runs that trained something, by what they have in common besides fold and seed."""
    known = by_id(runs)
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (tag(run, "mien.fold"), run.info.start_time)):
        if tag(run, "mien.kind") in GATHERING or not tag(run, "mien.system"):
            continue
        settings = repr(sorted(_settings(run).items())).encode()
        digest = hashlib.blake2b(settings, digest_size=8).hexdigest()
        num_folds = tag(run, "mien.fold").partition("/")[2]
        groups[
            _system(run), _trial(run, known), tag(run, "mien.lake_hash"), num_folds, digest
        ].append(run)
    return groups


def _settings(run: Run) -> dict[str, str]:
    """What makes a difference to the result, other than chance."""
    return {key: value for key, value in run.data.params.items() if not key.startswith(INDIFFERENT)}


def _system(run: Run) -> str:
    return f"{tag(run, 'mien.system')}.{tag(run, 'mien.recipe')}"


def _trial(run: Run, known: Mapping[str, Run]) -> str:
    """The name of the trial that the run belongs to, or nothing."""
    ancestor: Run | None = run
    while ancestor is not None:
        if tag(ancestor, "mien.kind") == "trial":
            return ancestor.info.run_name or ancestor.info.run_id or ""
        ancestor = known.get(tag(ancestor, PARENT))
    return ""


def _row(group: Sequence[Run], test: Tested | None, known: Mapping[str, Run], seed: int) -> Row:
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
        figures=_other_figures(group),
    )
    if test is None:
        return row
    intervals = statistics.subject_bootstrap(test.counts_SKK, seed=seed)
    return replace(
        row,
        num_faces=round(test.counts_SKK.sum()),
        num_subjects=len(test.subjects),
        accuracy=intervals["accuracy"],
        macro_recall=intervals["macro_recall"],
    )


def _other_figures(group: Sequence[Run]) -> dict[str, float]:
    """What a system is measured by besides recognition, such as the accuracy of its edits."""
    figures = {}
    for prefix, shown in FIGURES.items():
        names = {name for run in group for name in run.data.metrics if name.startswith(prefix)}
        for name in sorted(names):
            value = mean_metric(group, name)
            own = name.removeprefix(prefix)
            if value is not None and not own.startswith(OWN_FIGURES):
                figures[shown + own] = value
    return figures


def _with_settings(rows: Sequence[Row], runs: Sequence[Run]) -> list[Row]:
    """Each row with the settings in which it departs from others of the same system and recipe."""
    known = by_id(runs)
    settings = [_settings(known[row.run_ids[0]]) for row in rows]
    told = []
    for row, own in zip(rows, settings, strict=True):
        kin = [other for other, of in zip(settings, rows, strict=True) if of.system == row.system]
        differing = {
            key: value for key, value in own.items() if any(o.get(key) != value for o in kin)
        }
        told.append(replace(row, settings=differing))
    return told


def _ranked(rows: Sequence[Row], tests: Sequence[Tested | None], seed: int) -> tuple[Row, ...]:
    """Best first, each with its paired difference to the best; a tie is called a tie."""
    order = sorted(range(len(rows)), key=lambda i: _standing(rows[i]), reverse=True)
    rows, tests = [rows[i] for i in order], [tests[i] for i in order]
    best = tests[0]
    if best is None or len(rows) < 2:
        return tuple(rows)
    metric = statistics.METRICS[RANKED_BY]
    others = [test.counts_SKK for test in tests[1:] if test is not None]
    behind = [
        statistics.paired_bootstrap(best.counts_SKK, other, metric, seed=seed) for other in others
    ]
    corrected = statistics.holm([difference.p for difference in behind])
    judged = [
        replace(
            row,
            behind=difference,
            p=float(p),
            verdict="behind" if p < SIGNIFICANCE else "tie",
        )
        for row, difference, p in zip(rows[1:], behind, corrected, strict=True)
    ]
    return (replace(rows[0], verdict="best"), *judged)


def _standing(row: Row) -> tuple[float, float]:
    tested = row.macro_recall.value if row.macro_recall else -1.0
    return tested, row.validation_macro_recall or -1.0


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
    if len({block.lake_hash for block in tested}) > 1:
        notes.append("rows of different lakes stand apart: their figures must not be compared")
    if len({block.tested for block in tested}) < len(tested) or len(tested) > len(
        {block.lake_hash for block in tested}
    ):
        notes.append("rows tested on different faces (folds) stand apart: they are not ranked")
    if any(row.verdict == "tie" for block in tested for row in block.rows):
        notes.append(
            f"tie: not told apart from the best at {SIGNIFICANCE:.0%} by the paired test over "
            f"subjects, corrected by Holm"
        )
    return tuple(notes)

"""Runs, folds and trials of an experiment side by side: read from MLflow, with intervals and tests.

Runs of the same settings are one row, whatever their folds and seeds. Rows are ranked only among
those that were measured on the same faces of the same lake; others stand in a block of their own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.scorecard.intervals import subject_intervals
from tuning.blocks import blocks_of, notes_of
from tuning.figures import named, other_figures, usual
from tuning.recorded import (
    Tested,
    above,
    by_id,
    mean_metric,
    open_store,
    runs_of,
    tag,
    tested_of,
)
from tuning.rows import PRUNED, Comparison, Evidence, Row, division_of, num_folds_of

if TYPE_CHECKING:
    from mlflow.entities import Run

FIRST_WEIGHTS = ("init", "init_only", "init_map")
"""Tags: what a run started from makes a difference, too."""
INDIFFERENT = (
    *("seed", "checkpoint.", "logging.", "data.stream", "data.prefetch"),
    *("engine.workers", "engine.least_workers", "engine.zero", "engine.threads"),
    "engine.channels_last",
)
GATHERING = ("crossval", "study", "trial", "comparison")
ENDINGS = {"FINISHED": "", "KILLED": "ended early", "FAILED": "failed"}
"""How a trial ended, by the status of its run; any other has not ended."""
CHOSEN = "study "
"""How a leak begins that is no fold's own: a study that chose the settings by test subjects."""


def compare(uri: str, experiment: str, *, seed: int = 0) -> Comparison:
    """The finished runs of an experiment, grouped, ranked where that is fair, with paired tests.

    Beside them stand, without a rank, trials that were ended before a fold of theirs had finished.
    ValueError, in one line, where there is no such experiment or it has no finished run.
    """
    client = open_store(uri)
    runs = [
        run for run in runs_of(client, uri, experiment) if tag(run, "mien.kind") != "comparison"
    ]
    finished = [run for run in runs if run.info.status == "FINISHED"]
    known = by_id(runs)
    if not finished:
        raise ValueError(f"no run of the experiment '{experiment}' has finished yet")
    rows, tests, lakes = [], [], []
    for group in _groups([*finished, *_ended_early(runs, known)], known):
        test = tested_of(client, group, "predictions")
        rows.append(_row(group, test, known))
        tests.append(test)
        lakes.append(tag(group[0], "mien.lake_hash"))
    if not rows:
        raise ValueError(
            f"the finished runs of the experiment '{experiment}' have no folds: there are "
            f"{len(finished)}, and none of them is a training by mien"
        )

    def seen_of(row: Row) -> Tested | None:
        return tested_of(client, [known[run_id] for run_id in row.run_ids], "validation")

    blocks = blocks_of(rows, tests, lakes, seen_of, seed)
    trained = [run for run in runs if tag(run, "mien.kind") not in GATHERING]
    shown = {run_id for row in rows for run_id in row.run_ids}
    unfinished = sum(
        run.info.status != "FINISHED" and run.info.run_id not in shown for run in trained
    )
    notes = notes_of(blocks, unfinished, len(trained))
    return Comparison(experiment=experiment, blocks=tuple(blocks), notes=notes)


def _ended_early(runs: Sequence[Run], known: Mapping[str, Run]) -> list[Run]:
    """Of each trial that was ended before any fold of it had finished, the run that it ended in."""
    last: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.info.status == "FINISHED", run.info.start_time)):
        trial = above(run, known, "trial")
        if trial is not None and trial.info.status == "KILLED":
            last[trial.info.run_id] = run
    return [run for run in last.values() if run.info.status == "KILLED"]


def _groups(runs: Sequence[Run], known: Mapping[str, Run]) -> list[list[Run]]:
    """The runs that trained something, by what they have in common besides fold and seed."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (tag(run, "mien.fold"), run.info.start_time)):
        if tag(run, "mien.kind") in GATHERING or not tag(run, "mien.system"):
            continue
        settings = repr(sorted(_settings(run).items())).encode()
        digest = hashlib.blake2b(settings, digest_size=8).hexdigest()
        trial = above(run, known, "trial")
        key = (
            _system(run),
            trial.info.run_id if trial else "",
            tag(run, "mien.lake_hash"),
            division_of(tag(run, "mien.fold")),
            *(leak for leak in _leaks([run]) if leak.startswith(CHOSEN)),
            digest,
        )
        groups[key].append(run)
    return [part for group in groups.values() for part in _by_pool(group)]


def _by_pool(group: Sequence[Run]) -> list[list[Run]]:
    """One group, as each fold has synthetic faces of its own; but one for each pool where a fold
    was trained with several."""
    folds: dict[str, set[str]] = defaultdict(set)
    pools: dict[str, list[Run]] = defaultdict(list)
    for run in group:
        pool = tag(run, "mien.synthetic_hash") or tag(run, "mien.synthetic")
        folds[tag(run, "mien.fold")].add(pool)
        pools[pool].append(run)
    if all(len(own) == 1 for own in folds.values()):
        return [list(group)]
    return list(pools.values())


def _settings(run: Run) -> dict[str, str]:
    """What makes a difference to the result, other than chance and synthetic faces."""
    own = {key: value for key, value in run.data.params.items() if not key.startswith(INDIFFERENT)}
    return own | {key: told for key in FIRST_WEIGHTS if (told := tag(run, f"mien.{key}"))}


def _pools(group: Sequence[Run]) -> dict[str, str]:
    """The synthetic faces of a row as a setting: each pool's name and start of its hash."""
    names = [(tag(run, "mien.synthetic"), tag(run, "mien.synthetic_hash")[:8]) for run in group]
    told = dict.fromkeys(" ".join(filter(None, name)) for name in names if any(name))
    return {"synthetic": ", ".join(told)} if told else {}


def _leaks(group: Sequence[Run]) -> list[str]:
    """What leaks in any of the runs: each fold tells of its own, a study of all its trials'."""
    told = [leak for run in group for leak in tag(run, "mien.leaks").split("; ")]
    return [leak for leak in dict.fromkeys(told) if leak not in ("", "none")]


def _system(run: Run) -> str:
    return f"{tag(run, 'mien.system')}.{tag(run, 'mien.recipe')}"


def _row(group: Sequence[Run], test: Tested | None, known: Mapping[str, Run]) -> Row:
    first = group[0]
    trial = above(first, known, "trial")
    above_all = [above(run, known, "study") for run in group]
    studies = list({study.info.run_id: study for study in above_all if study}.values())
    evidence = _evidence(group, test, is_trial=trial is not None)
    objectives = tuple(dict.fromkeys(name for study in studies for name in _objectives(study)))
    figures, bounds = other_figures(group, named(objectives, "validation"))
    ending, reached = _ending(trial, group, known) if trial else ("", "")
    row = Row(
        system=_system(first),
        kind=tag(first, "mien.kind"),
        evidence=evidence,
        study=", ".join(tag(study, "mien.study") or _name(study) for study in studies),
        trial=_name(trial) if trial else "",
        ending=ending,
        reached=reached,
        settings=_settings(first) | _pools(group),
        run_ids=tuple(run.info.run_id for run in group),
        folds=tuple(dict.fromkeys(tag(run, "mien.fold") for run in group)),
        seeds=tuple(dict.fromkeys(run.data.params.get("seed", "") for run in group)),
        leaks="; ".join(_leaks([*studies, *group] if trial else group)),
        validation_macro_recall=mean_metric(group, "final/macro_recall", "validation/macro_recall"),
        images_per_second=mean_metric(group, "final/images_per_second", "images_per_second"),
        seconds=sum(_seconds(run) for run in group),
        figures=figures,
        figure_bounds=bounds,
        verdict=PRUNED if ending == PRUNED else "",
    )
    if test is not None:
        row = _with_test(row, test)
    return replace(row, objectives=named(objectives, evidence) or usual(row))


def _ending(trial: Run, group: Sequence[Run], known: Mapping[str, Run]) -> tuple[str, str]:
    """How a trial ended, and which part of its folds it had finished; both empty if it is whole.

    MLflow tells a pruned trial from one that was stopped only once its study has finished: until
    then it may go on.
    """
    finished = {tag(run, "mien.fold") for run in group if run.info.status == "FINISHED"}
    num_folds = num_folds_of(tag(group[0], "mien.fold"))
    study = above(trial, known, "study")
    ending = ENDINGS.get(trial.info.status, "not finished")
    if trial.info.status == "KILLED" and study is not None and study.info.status == "FINISHED":
        ending = PRUNED
    elif not ending and len(finished) < num_folds:
        ending = "folds missing"
    reached = f"{len(finished)} of {num_folds} folds" if finished else "no whole fold"
    return ending, reached if ending else ""


def _evidence(group: Sequence[Run], test: Tested | None, *, is_trial: bool) -> Evidence:
    if test is not None:
        return "predictions"
    tested = any(name.startswith("test/") for run in group for name in run.data.metrics)
    return "test" if tested and not is_trial else "validation"


def _objectives(study: Run) -> list[str]:
    return [name for name in study.data.params.get("objectives", "").split(", ") if name]


def _name(run: Run) -> str:
    return run.info.run_name or run.info.run_id


def _with_test(row: Row, test: Tested) -> Row:
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

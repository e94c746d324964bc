"""A published table under its own protocol: the paper's figures beside ours, with intervals.

Two rules stand side by side: `honest` tests what was chosen without the test subjects; `peeking`
reports the best of all looks at them, as papers do that choose the epoch by the fold that they
report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data_service.lakes.lake import Lake
from data_service.schema import Expression
from trainer import catalog, departures, feed, launch, peeking
from trainer.config import RunConfig
from trainer.crossval import crossval
from trainer.departures import SCRATCH, Divided, Start
from trainer.leakage import leak_tags
from trainer.overrides import knobs, with_overrides
from trainer.published import Entry, Table, table_named
from trainer.restore import check_map
from trainer.scorecard.evaluate import pooled, read_predictions
from trainer.scorecard.official_folds import mean_over_folds
from trainer.scorecard.statistics import METRICS

LOOKS = 20
"""How often a run is looked at, where its recipe does not say."""


def reproduce(
    name: str,
    lakes: Sequence[Path],
    *,
    recipe: str = "paper",
    systems: Sequence[str] = (),
    folds: int | None = None,
    images: int | None = None,
    settings: Mapping[str, Any] | None = None,
    init: str | None = None,
    init_only: str = "*",
    init_map: Sequence[str] = (),
    parallel: int = 1,
    experiment: str = "reproduce",
    allow_leaks: bool = False,
) -> dict[str, Any]:
    """Run every line of the table that has a system here, and set ours beside the paper's.

    `lakes` is one lake or, of a corpus with several official splits, one for each of them: ours is
    then the mean over these. `recipe`, `folds` and `images` shorten what the protocol says; any
    lake may stand in for the corpus: `differs` says what keeps ours from being comparable, and
    what leaks. `settings` go to the systems that have them. Every run starts from `init`, of which
    `init_only` and `init_map` are as for `launch.train`; it needs one system. Folds by subject are
    trained `parallel` at a time, official splits one after another. Plain JSON values: a row for
    every line and rule. ValueError where lakes and table share fewer than two classes, where the
    folds leak unless `allow_leaks`, where nothing is left to run, or weights are given to several
    systems; the corpus' terms are named where there is no lake.
    """
    settings, table = settings or {}, table_named(name)
    start = Start(init=init, init_only=init_only, init_map=tuple(init_map))
    told = _folds(table, folds)
    opened = _opened(table, lakes, told)
    held = [lake.manifest.classes for lake in opened]
    classes = [one for one in table.classes if all(counts.get(one) for counts in held)]
    if len(classes) < 2:
        raise ValueError(
            f"{_listed(lakes)} has not two of the classes of {name}: {', '.join(table.classes)}"
        )
    chosen = _chosen(table, systems)
    _check_start(chosen, start)
    _check_settings(chosen, recipe, settings)
    runs = {entry: _run(entry, recipe, classes, images, settings) for entry in chosen}
    divided = _divided(opened, told, classes)
    leaks = _leaks(divided, allow=allow_leaks)
    differs = [
        *departures.of_protocol(table, opened, classes, recipe, told, images, settings),
        *departures.of_validation(divided),
        *departures.of_networks(runs, start),
    ]
    rows = [_row(entry) for entry in table.entries if entry not in runs]
    for entry, run in runs.items():
        rows += _ours(entry, table, run, lakes, told, parallel, experiment, allow_leaks, start)
    return {
        "table": name,
        "title": table.title,
        "protocol": table.protocol,
        "metric": table.metric,
        "lakes": [str(lake) for lake in lakes],
        "lake_hashes": [lake.hash for lake in opened],
        "differs": [*differs, *leaks],
        "rows": rows,
    }


def _folds(table: Table, folds: int | None) -> int | str:
    """The protocol's folds, or those that are asked for; ValueError for fewer than two."""
    if folds is not None and folds < 2:
        raise ValueError(f"--folds {folds}: at least 2 are needed, for each is tested once")
    return table.folds if folds is None else folds


def _divided(lakes: Sequence[Lake], folds: int | str, classes: Sequence[Expression]) -> Divided:
    """The lakes with their folds by name; ValueError where one cannot be divided so."""
    count = folds if isinstance(folds, int) else 0
    names = [f"{index + 1}/{count}" for index in range(count)] or [feed.OFFICIAL]
    return [
        (lake, {name: feed.split(lake, name, tuple(classes)) for name in names}) for lake in lakes
    ]


def _leaks(divided: Divided, *, allow: bool) -> list[str]:
    """What stands on more than one side of the folds; ValueError where it may not."""
    told = []
    for lake, splits in divided:
        found = leak_tags(lake, splits, allow=allow)["mien.leaks"]
        told += [] if found == "none" else [f"leaks of {lake.path.name} in {found}"]
    return told


def _opened(table: Table, lakes: Sequence[Path], folds: int | str) -> list[Lake]:
    """The lakes; ValueError for one that is none, too many of them, or one that is given twice."""
    most = table.lakes if folds == feed.OFFICIAL else 1
    if not 1 <= len(lakes) <= most:
        valid = f"1 to {most}, one for each official split" if most > 1 else "1"
        raise ValueError(f"{len(lakes)} lakes for {table.name}, folds {folds}; valid: {valid}")
    try:
        opened = [Lake.open(lake) for lake in lakes]
    except ValueError as error:
        raise ValueError(
            f"{error}; {table.name} needs {table.corpus}: {table.access} Then: {table.ingest}"
        ) from None
    if len({lake.hash for lake in opened}) < len(opened):
        raise ValueError(
            f"two of {_listed(lakes)} are the same; valid: one lake for each official split, by "
            f"{table.ingest}"
        )
    return opened


def _listed(lakes: Sequence[Path]) -> str:
    return ", ".join(map(str, lakes))


def _chosen(table: Table, systems: Sequence[str]) -> list[Entry]:
    known = sorted({entry.system for entry in table.entries if entry.system} & set(catalog.names()))
    if unknown := sorted(set(systems) - set(known)):
        raise ValueError(f"{table.name} has no line of {unknown[0]}; valid: {', '.join(known)}")
    wanted = set(systems) or set(known)
    chosen = [entry for entry in table.entries if entry.system in wanted]
    if not chosen:
        raise ValueError(f"no system here is in the table {table.name}")
    return chosen


def _check_start(chosen: list[Entry], start: Start) -> None:
    """ValueError where weights are given to several systems, or their names cannot be mapped."""
    check_map(start.init, start.init_map)
    systems = sorted({entry.system for entry in chosen})
    if start.init is not None and len(systems) > 1:
        raise ValueError(
            f"--init {start.init}: no weights fit several systems; choose one by --system: "
            f"{', '.join(systems)}"
        )


def _recipe(entry: Entry, recipe: str) -> RunConfig:
    full = f"{recipe}_{entry.variant}" if entry.variant else recipe
    return catalog.recipe(f"{entry.system}.{full}")


def _paths(run: RunConfig) -> set[str]:
    """What a setting of the run may be called."""
    found = {knob.path for knob in knobs(run)}
    aliases = {knob.alias for knob in knobs(run) if knob.alias}
    symbols = {alias.rpartition(".")[2] for alias in aliases}
    return found | aliases | symbols


def _check_settings(chosen: list[Entry], recipe: str, settings: Mapping[str, Any]) -> None:
    """ValueError for a setting that none of the systems has."""
    known = set().union(*(_paths(_recipe(entry, recipe)) for entry in chosen))
    if unknown := sorted(set(settings) - known):
        systems = ", ".join(sorted({entry.system for entry in chosen}))
        raise ValueError(f"--set {unknown[0]}: none of these systems has it: {systems}")


def _run(
    entry: Entry,
    recipe: str,
    classes: list[Expression],
    images: int | None,
    settings: Mapping[str, Any],
) -> RunConfig:
    run = _recipe(entry, recipe)
    own = _paths(run).intersection(settings)
    run = with_overrides(run, {path: settings[path] for path in own})
    run = replace(run, data=replace(run.data, classes=tuple(classes)))
    stages = _stage_images(run)
    total = sum(stages.values())
    if images is not None:
        run = with_overrides(run, _shortened(run, stages, images))
        total = images
    evaluation = replace(
        run.evaluation,
        peeking=True,
        every_images=min(run.evaluation.every_images or max(total // LOOKS, 1), total),
    )
    return replace(run, evaluation=evaluation)


def _stage_images(run: RunConfig) -> dict[str, int]:
    """The settings that say how many images a stage sees, by dotted path."""
    found = {}
    for knob in knobs(run):
        section, _, name = knob.path.rpartition(".")
        counts = name == "images" or name.endswith("_images")
        apart = name.startswith(("ema_", "global_")) or name.endswith("batch_images")
        if section == "system" and counts and not apart and isinstance(knob.default, int):
            found[knob.path] = knob.default
    return found


def _shortened(run: RunConfig, stages: Mapping[str, int], images: int) -> dict[str, int]:
    """The stages in their proportions, `images` together, none of them empty."""
    batch = run.data.global_batch_images
    if images < batch * len(stages):
        raise ValueError(
            f"--images {images}: {run.system_name} needs {batch * len(stages)} or more"
        )
    total = sum(stages.values())
    return {path: max(images * own // total, batch) if own else 0 for path, own in stages.items()}


def _ours(
    entry: Entry,
    table: Table,
    run: RunConfig,
    lakes: Sequence[Path],
    folds: int | str,
    parallel: int,
    experiment: str,
    allow_leaks: bool,
    start: Start = SCRATCH,
) -> Iterator[dict[str, Any]]:
    given: dict[str, Any] = {"experiment": experiment, "allow_leaks": allow_leaks, **asdict(start)}
    official = folds == feed.OFFICIAL
    if official:
        results = [_official(run, lake, given) for lake in lakes]
        run_ids = [result.run_id for result in results]
    else:
        assert isinstance(folds, int)
        found = crossval(run, lakes[0], folds, parallel=parallel, **given)
        results, run_ids = found.folds, [found.run_id]
    for rule, file in _files(table.metric).items():
        parts = [read_predictions(result.directory / file) for result in results]
        tested = parts if official else [pooled(parts)]
        ours = mean_over_folds(tested, METRICS[table.metric])
        own = {"rule": rule, "ours": asdict(ours), "recipe": run.recipe, "run_ids": run_ids}
        yield {**_row(entry), **own, "num_faces": sum(map(len, tested))}


def _files(metric: str) -> dict[str, str]:
    """Which of a run's predictions each rule reports."""
    return {"honest": "predictions.npz", "peeking": peeking.FILES[metric]}


def _official(run: RunConfig, lake: Path, given: Mapping[str, Any]) -> launch.RunResult:
    return launch.unstopped(launch.train(run, lake, fold=feed.OFFICIAL, **given))


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "method": entry.method,
        "published": entry.figure,
        "note": entry.note,
        "source": entry.source,
    }

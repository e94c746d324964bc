"""A published table under its own protocol: the paper's figures beside ours, with intervals.

The figures live in `published.json`, each with its source. Two rules stand side by side: `honest`
tests what was chosen without the test subjects; `peeking` reports the best of all looks at them, as
papers do that choose the epoch by the fold that they report.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data_service.lakes.lake import Lake
from data_service.schema import Expression
from trainer import catalog, feed, launch
from trainer.config import RunConfig
from trainer.crossval import crossval
from trainer.leakage import leak_tags
from trainer.overrides import knobs, with_overrides
from trainer.peeking import FILE as PEEKING
from trainer.scorecard.evaluate import pooled, read_predictions, scorecard

PUBLISHED = Path(__file__).with_name("published.json")
LOOKS = 20
"""How often a run is looked at, where its recipe does not say."""
OWN_NETWORK = "system.identity_network"
"""Names a network that the paper has too; the other settings depart from its recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A line of a table: a method and its figure in percent; `system` where it can be run here."""

    method: str
    figure: float
    source: str
    system: str = ""
    variant: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A published table and its protocol; `folds` is a number, or the corpus' official split."""

    name: str
    title: str
    corpus: str
    classes: tuple[Expression, ...]
    folds: int | Literal["official"]
    metric: Literal["accuracy", "macro_recall"]
    protocol: str
    faces: int
    access: str
    ingest: str
    entries: tuple[Entry, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def tables() -> dict[str, Table]:
    """All tables by name."""
    values = json.loads(PUBLISHED.read_text())
    found = {}
    for name, one in values["tables"].items():
        entries = [Entry(**entry) for entry in one.pop("entries")]
        entries = [replace(entry, source=values["sources"][entry.source]) for entry in entries]
        classes = tuple(Expression(label) for label in one.pop("classes"))
        found[name] = Table(name=name, classes=classes, entries=tuple(entries), **one)
    return found


def table_named(name: str) -> Table:
    """The table of that name; ValueError lists the valid ones."""
    known = tables()
    if name not in known:
        raise ValueError(f"unknown table '{name}'; valid: {', '.join(known)}")
    return known[name]


def reproduce(
    name: str,
    lake: Path,
    *,
    recipe: str = "paper",
    systems: Sequence[str] = (),
    folds: int | None = None,
    images: int | None = None,
    settings: Mapping[str, Any] | None = None,
    parallel: int = 1,
    experiment: str = "reproduce",
    allow_leaks: bool = False,
) -> dict[str, Any]:
    """Run every line of the table that has a system here, and set ours beside the paper's.

    `recipe`, `folds` and `images` shorten what the protocol says; any lake may stand in for the
    corpus, and `comparable` then says no. `settings` go to the systems that have them. Plain JSON
    values: a row for every line and rule; `differs` also says what leaks. ValueError where lake and
    table share fewer than two classes, where the folds leak unless `allow_leaks`, or where nothing
    is left to run; the corpus' terms are named where there is no lake.
    """
    settings, table = settings or {}, table_named(name)
    opened = _opened(table, lake)
    classes = [one for one in table.classes if opened.manifest.classes.get(one)]
    if len(classes) < 2:
        raise ValueError(f"{lake} has not two of the classes of {name}: {', '.join(table.classes)}")
    chosen = _chosen(table, systems)
    _check_settings(chosen, recipe, settings)
    runs = {entry: _run(entry, recipe, opened, classes, images, settings) for entry in chosen}
    told = folds or table.folds
    leaks = _leaks(opened, told, classes, allow=allow_leaks)
    differs = _differs(table, opened, classes, recipe, told, images, settings)
    rows = [_row(entry) for entry in table.entries if entry not in runs]
    for entry, run in runs.items():
        rows += _ours(entry, table, run, lake, told, parallel, experiment, allow_leaks)
    return {
        "table": name,
        "title": table.title,
        "protocol": table.protocol,
        "metric": table.metric,
        "lake": str(lake),
        "lake_hash": opened.hash,
        "differs": [*differs, *leaks],
        "rows": rows,
    }


def _leaks(
    lake: Lake, folds: int | str, classes: Sequence[Expression], *, allow: bool
) -> list[str]:
    """What stands on more than one side of the folds; ValueError where it may not."""
    count = folds if isinstance(folds, int) else 0
    names = [f"{index + 1}/{count}" for index in range(count)] or [feed.OFFICIAL]
    splits = {name: feed.split(lake, name, tuple(classes)) for name in names}
    found = leak_tags(lake, splits, allow=allow)["mien.leaks"]
    return [] if found == "none" else [f"leaks in {found}"]


def _opened(table: Table, lake: Path) -> Lake:
    try:
        return Lake.open(lake)
    except ValueError as error:
        raise ValueError(
            f"{error}; {table.name} needs {table.corpus}: {table.access} Then: {table.ingest}"
        ) from None


def _chosen(table: Table, systems: Sequence[str]) -> list[Entry]:
    known = sorted({entry.system for entry in table.entries if entry.system} & set(catalog.names()))
    if unknown := sorted(set(systems) - set(known)):
        raise ValueError(f"{table.name} has no line of {unknown[0]}; valid: {', '.join(known)}")
    wanted = set(systems) or set(known)
    chosen = [entry for entry in table.entries if entry.system in wanted]
    if not chosen:
        raise ValueError(f"no system here is in the table {table.name}")
    return chosen


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
    lake: Lake,
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
    lake: Path,
    folds: int | str,
    parallel: int,
    experiment: str,
    allow_leaks: bool,
) -> Iterator[dict[str, Any]]:
    if folds == feed.OFFICIAL:
        official = launch.train(
            run, lake, fold=feed.OFFICIAL, experiment=experiment, allow_leaks=allow_leaks
        )
        results = (launch.unstopped(official),)
        honest, run_id = results[0].scorecard, results[0].run_id
    else:
        assert isinstance(folds, int)
        found = crossval(
            run, lake, folds, parallel=parallel, experiment=experiment, allow_leaks=allow_leaks
        )
        results, honest, run_id = found.folds, found.scorecard, found.run_id
    looks = pooled([read_predictions(result.directory / PEEKING) for result in results])
    peeking = scorecard(looks, [str(one) for one in run.data.classes], seed=run.seed)
    for rule, card in (("honest", honest), ("peeking", peeking)):
        assert card is not None, "only systems that recognise stand in these tables"
        own = {"rule": rule, "ours": card[table.metric], "recipe": run.recipe, "run_id": run_id}
        yield {**_row(entry), **own, "num_faces": card["num_faces"]}


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "method": entry.method,
        "published": entry.figure,
        "note": entry.note,
        "source": entry.source,
    }


def _differs(
    table: Table,
    lake: Lake,
    classes: list[Expression],
    recipe: str,
    folds: int | str,
    images: int | None,
    settings: Mapping[str, Any],
) -> list[str]:
    """What keeps our figures from being comparable with the paper's; empty where nothing does."""
    corpus = lake.manifest.corpus
    count = sum(lake.manifest.classes.get(one, 0) for one in classes)
    found = {
        f"the lake holds {corpus}, not {table.corpus}": corpus != table.corpus,
        f"{count} faces, not {table.faces}": count != table.faces,
        f"{len(classes)} classes, not {len(table.classes)}": len(classes) != len(table.classes),
        f"recipe {recipe}, not paper": recipe != "paper",
        f"folds: {folds}, not {table.folds}": folds != table.folds,
        f"{images} images of training": images is not None,
    }
    changed = [f"--set {path}={settings[path]}" for path in settings if path != OWN_NETWORK]
    return [*(text for text, holds in found.items() if holds), *changed]

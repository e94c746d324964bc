"""What keeps our figures from being comparable with a paper's, a line for each departure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_service.folds import Fold, subject_keys
from data_service.lakes.lake import Lake
from data_service.schema import Expression
from trainer import feed
from trainer import job as jobs
from trainer.ancestry import first_weights, name_of
from trainer.config import RunConfig
from trainer.published import Entry, Network, Table

OWN_NETWORK = "system.identity_network"
"""Names a network that the paper has too; the other settings depart from its recipe."""
Divided = Sequence[tuple[Lake, Mapping[str, Fold]]]
"""The lakes, each with its divisions by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """First weights, as `launch.train` takes them."""

    init: str | None = None
    init_only: str = "*"
    init_map: Sequence[str] = ()


SCRATCH = Start()


def of_protocol(
    table: Table,
    lakes: Sequence[Lake],
    classes: Sequence[Expression],
    recipe: str,
    folds: int | str,
    images: int | None,
    settings: Mapping[str, Any],
) -> list[str]:
    """Where lakes, folds and settings are not the table's; empty where all are."""
    found = {}
    for lake in lakes:
        corpus = lake.manifest.corpus
        count = sum(lake.manifest.classes.get(one, 0) for one in classes)
        found[f"the lake holds {corpus}, not {table.corpus}"] = corpus != table.corpus
        found[f"{count} faces, not {table.faces}"] = count != table.faces
    too_few = folds == feed.OFFICIAL and len(lakes) < table.lakes
    found |= {
        f"{len(classes)} classes, not {len(table.classes)}": len(classes) != len(table.classes),
        f"recipe {recipe}, not paper": recipe != "paper",
        f"folds: {folds}, not {table.folds}": folds != table.folds,
        f"official splits: {len(lakes)}, not {table.lakes}": too_few,
        f"{images} images of training": images is not None,
    }
    changed = [f"--set {path}={settings[path]}" for path in settings if path != OWN_NETWORK]
    return [*(text for text, holds in found.items() if holds), *changed]


def of_validation(divided: Divided) -> list[str]:
    """Whom our folds hold out of training, where the corpus itself names nobody for validation."""
    counts_F4 = np.array(list(_held_out(divided)), np.float64).reshape(-1, 4)
    if not counts_F4.size:
        return []
    held, subjects, faces_left, faces = counts_F4.mean(axis=0)
    fold = "" if len(counts_F4) == 1 else " of a fold"
    return [
        f"about 1/{subjects / held:.0f} of the training subjects held out for validation, "
        f"{faces_left:.0f} of {faces:.0f} training faces{fold} are left"
    ]


def _held_out(divided: Divided) -> Iterator[tuple[int, int, int, int]]:
    """Of each fold: subjects held out, of so many; faces that train, of so many."""
    for lake, folds in divided:
        subject_N = subject_keys(lake.table)
        for name, fold in folds.items():
            if name == feed.OFFICIAL and _names_validation(lake, fold):
                continue
            held, trained = fold.validation_rows, fold.train_rows
            num_held, num_trained = (len(np.unique(subject_N[rows])) for rows in (held, trained))
            yield num_held, num_held + num_trained, len(trained), len(held) + len(trained)


def _names_validation(lake: Lake, fold: Fold) -> bool:
    return "validation" in lake.table["split"].take(fold.validation_rows).to_pylist()


def of_networks(runs: Mapping[Entry, RunConfig], start: Start) -> list[str]:
    """Where the trained networks that figures stand on are not those that our runs are given."""
    told = [
        f"{entry.system}: {text}"
        for entry, run in runs.items()
        for text in (*_of_identity(entry.identity, run.system), *_of_start(entry.start, start))
    ]
    return list(dict.fromkeys(told))


def _of_identity(paper: Network | None, system: Any) -> Iterator[str]:
    if paper is None:
        return
    source, shape, width = system.identity_network, system.identity_shape, system.identity_width
    if not source:
        yield f"no identity network, the figure stands on {paper.what}"
    elif source == "random":
        yield f"a random identity network, not {paper.what}"
    elif made := _made_here(source):
        yield f"an identity network of your own making, {made}, not {paper.what}"
    elif (shape, width) != (paper.shape, 1.0):
        yield f"an identity network that is {_shaped(shape, width)}, not {paper.what}"


def _of_start(paper: Network | None, start: Start) -> Iterator[str]:
    if start.init is None:
        if paper is not None:
            yield f"not pre-trained, the figure stands on {paper.what}"
        return
    made = _made_here(start.init)
    if paper is None:
        yield f"starts from {made or start.init}, which the figure does not"
    elif made:
        yield f"starts from weights of your own making, {made}, not from {paper.what}"
    if start.init_only != "*":
        yield f"starts from {start.init_only} of those weights alone"


def _made_here(source: str) -> str:
    """The run that made the weights of that name, with its shape; empty for a file from elsewhere.

    Also empty where there are none: the training refuses these.
    """
    with suppress(ValueError):
        named = Path(source)
        weights = named.absolute() if named.is_file() else first_weights(source)
        name = name_of(weights)
        if name == str(weights):
            return ""
        directory = next(one for one in weights.resolve().parents if one.name == name)
        system = jobs.load(directory).run.system
        shaped = hasattr(system, "shape") and hasattr(system, "width")
        return f"run {name}" + (f" ({_shaped(system.shape, system.width)})" if shaped else "")
    return ""


def _shaped(shape: str, width: float) -> str:
    return f"{shape} of width {width:g}"

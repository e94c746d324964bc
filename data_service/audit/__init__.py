"""What could make results on a lake untrue: copies across a split, contradictions, giveaways.

An audit depends on the lake alone and lies beside it in `audit.json`, or in this node's cache where
the lake may only be read, so that a training only reads it. What it says of a split follows from
the split's rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from data_service.audit.findings import Audit, Leaks, leaks, one_class_subjects
from data_service.folds import Fold, named_split
from data_service.lakes.lake import Lake
from data_service.lakes.unpacked import cache_dir
from data_service.schema import Expression

if TYPE_CHECKING:
    from data_service.audit.pictures import Pictures

__all__ = ["Audit", "Leaks", "audited", "leaks_of", "told"]


def audited(lake: Lake, pictures: Pictures | None = None) -> Audit:
    """The lake's audit: read where it is there, else found, and kept where that is allowed.

    `pictures` are those of the lake, from who has them already.
    """
    cache = cache_dir() / lake.manifest.files_hash
    for folder in (lake.path, cache):
        if (known := Audit.read(folder, lake.hash, len(lake))) is not None:
            return known
    # these take a second to import, and most trainings never need them
    from data_service.audit.copies import find_copies
    from data_service.audit.giveaways import find_giveaways
    from data_service.audit.pictures import Pictures

    pictures = pictures or Pictures.of(lake)
    table = lake.table
    with ThreadPoolExecutor(1) as beside:
        giveaways = beside.submit(find_giveaways, table, pictures.colours_NF)
        pairs = find_copies(pictures, table, lake.manifest.image_size)
    found = Audit(lake_hash=lake.hash, faces=len(lake), pairs=pairs, giveaways=giveaways.result())
    try:
        found.write(lake.path)
    except OSError:  # a lake that may only be read
        with contextlib.suppress(OSError):  # a full disk
            cache.mkdir(parents=True, exist_ok=True)
            found.write(cache)
    return found


def leaks_of(lake: Lake, fold: Fold) -> Leaks:
    """What stands on more than one side of a split of the lake."""
    parts = (fold.train_rows, fold.validation_rows, fold.test_rows)
    return leaks(audited(lake), lake.table, parts)


def told(lake: Lake, fold: str | None = None) -> dict[str, Any]:
    """The audit as plain values, faces by name; with a fold (of all classes) what leaks in it.

    ValueError for a fold that cannot be.
    """
    audit, table = audited(lake), lake.table
    names, subjects = (table[name].to_pylist() for name in ("name", "subject"))

    def named(groups: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[names[row] for row in rows] for rows in groups]

    one_class = one_class_subjects(table)
    values = {
        "lake": str(lake.path),
        "hash": lake.hash,
        "faces": audit.faces,
        "exact_copies": sum(pair.exact for pair in audit.pairs),
        "near_copies": sum(not pair.exact for pair in audit.pairs),
        "copies": [
            {
                "files": [names[pair.first], names[pair.second]],
                "likeness": pair.likeness,
                "mirrored": pair.mirrored,
                "same_subject": subjects[pair.first] == subjects[pair.second] is not None,
            }
            for pair in audit.pairs
        ],
        "label_conflicts": named(audit.conflicts(table["expression"])),
        "subject_conflicts": named(audit.conflicts(table["subject"])),
        "subjects": lake.manifest.subjects,
        "one_class_subjects": one_class,
        "giveaways": [asdict(one) for one in audit.giveaways],
    }
    if fold is not None:
        classes = tuple(name for name in Expression if lake.manifest.classes.get(name))
        torn = leaks_of(lake, named_split(table, fold, classes or None))
        values |= {"fold": fold, "leaking_copies": named(torn.copies)}
        values["leaking_subjects"] = list(torn.subjects)
    return values

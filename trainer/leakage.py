"""No training on a split with leaks, unless it is asked for; the run's record says so then."""

from __future__ import annotations

from collections.abc import Mapping

from data_service.audit import Leaks, leaks_of
from data_service.folds import Fold
from data_service.lakes.lake import Lake


def leak_tags(
    lake: Lake, splits: Mapping[str, Fold], *, allow: bool, seen_by: str | None = None
) -> dict[str, str]:
    """The tag that says what leaks in splits, by their names, and which study saw the test.

    ValueError names the first with something on more than one side, where that is not allowed.
    """
    found = {name: leaks for name, split in splits.items() if (leaks := leaks_of(lake, split))}
    for name, leaks in found.items():
        if not allow:
            raise ValueError(
                f"fold {name} of {lake.path} leaks: {leaks} on more than one side, such as "
                f"{_example(lake, leaks)}; to see all: mien audit {lake.path} --fold {name}; "
                "to train nevertheless: --allow-leaks"
            )
    told = [f"fold {name}: {leaks}" for name, leaks in found.items()]
    if seen_by is not None:
        told.append(f"study {seen_by} chose by these test subjects")
    return {"mien.leaks": "; ".join(told) or "none"}


def _example(lake: Lake, leaks: Leaks) -> str:
    if leaks.subjects:
        return f"subject {leaks.subjects[0]}"
    names = lake.table["name"].take(list(leaks.copies[0][:2])).to_pylist()
    return " and ".join(names)

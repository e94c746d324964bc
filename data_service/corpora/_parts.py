"""What lies beside the parts of a corpus: below its source, and in nothing that was taken."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path

from data_service.corpora._files import visible
from data_service.corpora._walk import files_below
from data_service.schema import Rejection


def outside_parts(
    source: Path, parts: Collection[Path], left_alone: Collection[str] = ()
) -> Iterator[Rejection]:
    """The files below a source that are in none of its `parts`, which are folders or files.

    Those whose names below the source fit a pattern of `left_alone` are not told. The parts
    themselves are not walked, and nothing is outside where the source itself is one.
    """
    if source in parts:
        return
    names = ", ".join(sorted(part.relative_to(source).as_posix() for part in parts))
    for path, reason, detail in _beside(source, parts):
        name = path.relative_to(source).as_posix()
        if not any(fnmatch(name, pattern) for pattern in left_alone):
            yield Rejection(name=name, reason=reason, detail=detail or f"taken: {names}")


def _beside(folder: Path, parts: Collection[Path]) -> Iterator[tuple[Path, str, str]]:
    """Path, reason and detail of all that is in no part; the detail is empty for want of one."""
    for path in visible(folder):
        if path in parts:
            continue
        if any(part.is_relative_to(path) for part in parts):
            yield from _beside(path, parts)
        elif not path.is_dir():
            yield path, "in no folder of a part", ""
        elif path.is_symlink():
            yield path, "link to a folder", ""
        else:
            for found in files_below(path):
                if isinstance(found, Rejection):
                    yield path / found.name, found.reason, found.detail
                else:
                    yield found[1], "in no known part", ""

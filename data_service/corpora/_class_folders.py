"""Trees whose folders are named after the expressions that they hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from data_service.corpora._files import pictures, subfolders
from data_service.schema import Expression


def class_folders(
    folder: Path,
    expressions: Mapping[str, Expression],
    ignored: Collection[str] = (),
) -> Iterator[tuple[Path, Expression]]:
    """The pictures below a folder whose sub-folders name the expression, in any case.

    ValueError for a sub-folder that is no expression, but for those whose names are `ignored`.
    """
    for path in subfolders(folder):
        if path.name in ignored:
            continue
        expression = expressions.get(path.name.lower())
        if expression is None:
            raise ValueError(f"{path}: unknown expression; valid: {', '.join(expressions)}")
        yield from ((picture, expression) for picture in pictures(path))

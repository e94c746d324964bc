"""Trees whose folders are named after what they hold, and files that lie somewhere in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from data_service.corpora._files import SEARCH_DEPTH, pictures, visible
from data_service.schema import Expression


def file_named(source: Path, *names: str) -> Path | None:
    """The first of these files at or a few levels below the source, the shallowest first."""
    level = [source]
    for _ in range(SEARCH_DEPTH + 1):
        for folder in level:
            for name in names:
                if (folder / name).is_file():
                    return folder / name
        level = [path for folder in level for path in visible(folder) if path.is_dir()]
    return None


def class_folders(
    folder: Path,
    expressions: Mapping[str, Expression],
    ignored: Collection[str] = (),
) -> Iterator[tuple[Path, Expression]]:
    """The pictures below a folder whose sub-folders name the expression, in any case.

    ValueError for a sub-folder that is no expression, but for those whose names are `ignored`.
    """
    for path in filter(Path.is_dir, visible(folder)):
        if path.name in ignored:
            continue
        expression = expressions.get(path.name.lower())
        if expression is None:
            raise ValueError(f"{path}: unknown expression; valid: {', '.join(expressions)}")
        yield from ((picture, expression) for picture in pictures(path))

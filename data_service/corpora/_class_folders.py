"""Trees whose folders are named after the expressions that they hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from data_service.corpora._files import loose, pictures, strays, visible
from data_service.schema import Expression, Rejection, SourceFace


def class_folders(
    source: Path,
    folder: Path,
    expressions: Mapping[str, Expression],
    split: str,
    ignored: Collection[str] = (),
) -> tuple[list[SourceFace], list[Rejection]]:
    """The pictures below a folder whose sub-folders name the expression, in any case; all else
    that lies there is rejected.

    ValueError for a sub-folder that is no expression, but for those whose names are `ignored`.
    """
    faces: list[SourceFace] = []
    rejected = list(loose(source, folder, "an expression"))
    for path in filter(Path.is_dir, visible(folder)):
        if path.name not in ignored:
            expression = expressions.get(path.name.lower())
            if expression is None:
                raise ValueError(f"{path}: unknown expression; valid: {', '.join(expressions)}")
            rejected += strays(source, path)
            faces += (
                SourceFace(
                    name=picture.relative_to(source).as_posix(),
                    subject=None,
                    expression=expression,
                    path=picture,
                    split=split,
                )
                for picture in pictures(path)
            )
    return faces, rejected

"""Corpora that tell all in the names of their files: every file below a source, by a pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from data_service.lakes.manifest import PARTS
from data_service.schema import Rejection, SourceFace

LAKE_FILE = re.compile(r"(faces-[0-9a-f-]+\.parquet)|manifest\.json|quarantine\.csv|audit\.json")
FIELDS = ("split", "expression", "subject", "sequence", "frame")
"""What a part of a name can tell."""

FaceOf = Callable[[str, Path, Mapping[str, str]], SourceFace | Rejection]


def files_below(source: Path) -> Iterator[tuple[str, Path] | Rejection]:
    """Name and path of every file below a folder, in order, without lakes and what a dot hides.

    Folders that may not be read, and links to folders, which are not followed, are rejected.
    """
    refused: list[OSError] = []
    for folder, folders, files in os.walk(source, onerror=refused.append):
        here, below = Path(folder), Path(folder).relative_to(source)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in folders if not holds_lakes(here / name)]
        for name in sorted(files):
            if not name.startswith("."):
                yield (below / name).as_posix(), here / name
        for name in [name for name in folders if (here / name).is_symlink()]:
            yield Rejection(name=(below / name).as_posix(), reason="link to a folder")
    for error in refused:
        name = Path(error.filename).relative_to(source).as_posix()
        yield Rejection(name=name, reason="folder not readable", detail=error.strerror or "")


def holds_lakes(folder: str | Path) -> bool:
    """Whether a folder is a lake, finished or not, or has lakes and nothing else in it.

    So is what an ingest before this one has left in its source. A folder with any other file, or
    without faces of a lake, is none, nor is a link.
    """
    if os.path.islink(folder):
        return False
    found = False
    try:
        with os.scandir(folder) as entries:
            for one in entries:
                if one.name == PARTS:
                    found = True
                elif one.name.startswith("."):
                    continue
                elif one.is_dir(follow_symlinks=False):
                    if not holds_lakes(one.path):
                        return False
                    found = True
                elif (file := LAKE_FILE.fullmatch(one.name)) is None:
                    return False
                else:
                    found |= file[1] is not None
    except OSError:
        return False
    return found


def name_pattern(template: str) -> re.Pattern[str]:
    """A template such as `{split}/{expression}/{subject}_*` as an expression for `faces_named`.

    A field or a `*` stands for text without `/`, `{frame}` for digits. The template covers the name
    of a file without its suffix, or the folders above it, whatever lies further below. ValueError
    for an unknown field or one that stands twice.
    """
    made, seen = "", set()
    for part in re.split(r"(\{[^{}]*\}|\*)", template.strip("/")):
        if part.startswith("{"):
            field = part[1:-1]
            if field not in FIELDS or field in seen:
                valid = ", ".join(f"{{{one}}}" for one in FIELDS)
                raise ValueError(f"pattern '{template}': {part}; valid, once each: {valid} and *")
            seen.add(field)
            made += rf"(?P<{field}>\d+)" if field == "frame" else rf"(?P<{field}>[^/]+?)"
        else:
            made += "[^/]*?" if part == "*" else re.escape(part)
    return re.compile(f"{made}(?:/.*)?")


def faces_named(
    source: Path, pattern: re.Pattern[str], face_of: FaceOf
) -> tuple[list[SourceFace], list[Rejection]]:
    """What `face_of(name, path, fields)` makes of files whose names fit; others are rejected."""
    faces: list[SourceFace] = []
    rejected: list[Rejection] = []
    for found in files_below(source):
        if isinstance(found, Rejection):
            rejected.append(found)
            continue
        name, path = found
        fields = pattern.fullmatch(str(PurePosixPath(name).with_suffix("")))
        if fields is None:
            rejected.append(Rejection(name=name, reason="name not of the corpus"))
            continue
        face = face_of(name, path, fields.groupdict())
        faces.append(face) if isinstance(face, SourceFace) else rejected.append(face)
    return faces, rejected

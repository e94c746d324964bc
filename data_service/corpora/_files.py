"""What several corpora need of files: tables from anywhere, paths that stay below the source."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from data_service.schema import Expression, Rejection, Scan, SourceFace

SEARCH_DEPTH = 4
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def existing_folder(source: Path | None, corpus: str, layout: str) -> Path:
    """The source as a folder that exists; ValueError otherwise."""
    valid = f"{corpus} needs {layout}"
    if source is None:
        raise ValueError(f"no source given; {valid}")
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder; {valid}")
    return source


def table_text(path: Path) -> str:
    """A text table in UTF-8 (with or without byte order mark), UTF-16 with one, or else Latin-1.

    ValueError for UTF-16 that is none.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: damaged UTF-16: {error.reason}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def table_rows(
    path: Path, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and trimmed cells by column of each row of a table with a header.

    ValueError where one of `columns` is missing or a row does not reach it, with file and line.
    """
    if len(delimiter) != 1:
        raise ValueError(f"delimiter '{delimiter}'; valid: one character, or tab")
    text = io.StringIO(table_text(path), newline="")
    reader = csv.reader(text, strict=True, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in columns:
            if column not in header:
                found = ", ".join(header) or "nothing"
                valid = ",".join(columns)
                raise ValueError(
                    f"{path}, line 1: column '{column}' is missing; "
                    f"found: {found[:200]}; valid header: {valid}"
                )
        places = {name: header.index(name) for name in header if name}
        reach = max(places[column] for column in columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) <= reach:
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(cells)} columns; "
                    f"valid: {','.join(columns)}"
                )
            row = {name: cells[at].strip() for name, at in places.items() if at < len(cells)}
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def plain_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and trimmed cells of each row of a large comma separated table, as it streams.

    Whether the first row is a header is for the caller to tell. ValueError, with file and line, for
    a row that is no such row.
    """
    with path.open(newline="", encoding="latin-1") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def path_below(source: Path, text: str) -> tuple[str, Path | None]:
    """The tidy name of a listed file and its path, or None where it leads out of the source.

    Absolute paths and `..` are outside; `\\` separates as `/` does. Links are `sound`'s matter.
    """
    name = PurePosixPath(text.replace("\\", "/"))
    if not text or name.is_absolute() or ".." in name.parts or "\0" in text or ":" in name.parts[0]:
        return text, None
    return str(name), source / name


def sound(source: Path, scan: Scan) -> Scan:
    """The scan with the faces rejected whose files no worker may read, or no table can name.

    These lie, by links, outside of the source; or in a folder that may not be entered; or have a
    name that is no Unicode.
    """
    root = Path(os.path.realpath(source if source.is_dir() else source.parent))
    folders: dict[Path, str] = {}
    faces = []
    rejected = [replace(one, name=printable(one.name)) for one in scan.rejected]
    for face in scan.faces:
        name = printable(face.name)
        reason = "" if face.path is None else _why_closed(root, face.path, folders)
        if name != face.name:
            reason = "name not Unicode"
        if reason:
            rejected.append(Rejection(name=name, reason=reason))
        else:
            faces.append(face)
    return replace(scan, faces=tuple(faces), rejected=tuple(rejected))


def printable(name: str) -> str:
    """A name as text that any file can hold: bytes that are no Unicode become `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _why_closed(root: Path, path: Path, folders: dict[Path, str]) -> str:
    """Why a file is not to be read; `folders` remembers that of the folders seen so far."""
    reason = _why_folder_closed(root, path.parent, folders)
    if not reason and path.is_symlink():
        return _why_folder_closed(root, Path(os.path.realpath(path)).parent, folders)
    return reason


def _why_folder_closed(root: Path, folder: Path, folders: dict[Path, str]) -> str:
    if folder not in folders:
        inside = Path(os.path.realpath(folder)).is_relative_to(root)
        closed = "" if os.access(folder, os.X_OK, effective_ids=True) else "folder not readable"
        folders[folder] = closed if inside else "path outside the source"
    return folders[folder]


def why_no_file(path: Path) -> str | None:
    """Why a listed path is no ordinary file; None where it is one."""
    try:
        return None if path.is_file() else "file missing"
    except PermissionError:
        return "file not readable"
    except OSError:  # a name that is too long for any file
        return "file missing"


def visible(folder: Path) -> list[Path]:
    """The entries of a folder in order of name, without the hidden ones of file managers."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder in order of name; none where there is no folder."""
    return list(filter(is_picture, visible(folder) if folder.is_dir() else []))


def is_picture(path: Path) -> bool:
    """Whether the file's name is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def frame_number(path: Path) -> int | None:
    """The number at the end of a frame's file name; None where it has none."""
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits else None


def folders_named(source: Path, name: str) -> list[Path]:
    """Folders of that name at or a few levels below the source, the shallowest first.

    A folder that has the name is not searched further.
    """
    found, level = [], [source]
    for _ in range(SEARCH_DEPTH + 1):
        found += [folder for folder in level if folder.name == name]
        open_folders = [folder for folder in level if folder.name != name]
        level = [path for folder in open_folders for path in subfolders(folder)]
    return found


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder in order of name; quick among very many files."""
    with os.scandir(folder) as entries:
        found = [one.path for one in entries if one.is_dir() and not one.name.startswith(".")]
    return [Path(path) for path in sorted(found)]


def file_named(source: Path, *names: str) -> Path | None:
    """The first of these files at or a few levels below the source, the shallowest first."""
    level = [source]
    for _ in range(SEARCH_DEPTH + 1):
        for folder in level:
            for name in names:
                if (folder / name).is_file():
                    return folder / name
        level = [path for folder in level for path in subfolders(folder)]
    return None


def unwrapped(folder: Path) -> Path:
    """The folder, or the one of the same name in it: archives are often unpacked that way."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def listed_faces(
    folder: Path, rows: Iterable[tuple[int, SourceFace]], expected: Mapping[str, int]
) -> Scan:
    """The faces of a table whose files lie below `folder`, in its order.

    `rows` are line numbers and faces without a path, each named by the file as it is listed. Files
    that are missing, listed before or outside of the folder are rejected, the rest goes on.
    """
    faces: dict[str, SourceFace] = {}
    rejected: list[Rejection] = []
    for line, face in rows:
        name, path = path_below(folder, face.name)
        if path is None:
            reason = "path outside the source"
        elif name in faces:
            reason = "listed twice"
        elif (reason := why_no_file(path)) is None:
            faces[name] = replace(face, name=name, path=path)
            continue
        rejected.append(Rejection(name=name, reason=reason, detail=f"line {line}"))
    return Scan(faces=tuple(faces.values()), rejected=tuple(rejected), expected=expected)


def labelled_frames(
    files: Sequence[Path], expression: Expression, *, frames: int, neutral: bool, clips: bool
) -> list[tuple[Path, Expression | None]]:
    """The last `frames` files of a sequence with its expression; if wanted, the first as neutral,
    and with `clips` all others without a label.

    `files` run from the neutral onset to the peak; a neutral first one is never also a peak.
    """
    chosen: dict[Path, Expression | None] = dict.fromkeys(files if clips else ())
    chosen |= dict.fromkeys(files[-frames:], expression)
    if neutral:
        chosen |= dict.fromkeys(files[:1], Expression.NEUTRAL)
    return sorted(chosen.items())

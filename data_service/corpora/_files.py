"""What several corpora need of files: paths below the source, and only ordinary files read."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data_service.alignment.ordinary import open_ordinary
from data_service.corpora._walk import files_below, holds_lakes
from data_service.schema import Rejection, Scan, SourceFace

SEARCH_DEPTH = 4
MAX_TEXT_BYTES = 1 << 16
FILE_MISSING = "file missing"
NO_PICTURE = "no picture"
DRIVE = re.compile(r"[A-Za-z]:")
FRAME_BOUND = 1 << 31
MAX_CHARACTERS = 256
"""Of a subject, a sitting or a sequence: arrays of all of a lake are as wide as the longest."""
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def existing_folder(source: Path | None, corpus: str, layout: str) -> Path:
    """The source as a folder that exists; ValueError otherwise."""
    valid = f"{corpus} needs {layout}"
    if source is None:
        raise ValueError(f"no source given; {valid}")
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder; {valid}")
    return source


class RefusedFileError(ValueError):
    """A file that is not to be read. `reason` is a short stable phrase, `detail` what was found."""

    def __init__(self, path: Path, reason: str, detail: str = "") -> None:
        told = f"{reason} ({detail})" if detail else reason
        super().__init__(f"{path}: {told}; valid: an ordinary file below the source")
        self.reason, self.detail = reason, detail


def opened(source: Path, path: Path) -> BinaryIO:
    """A file, opened for reading. RefusedFileError where it is missing, lies outside of the source
    by links, is no ordinary file or may not be read."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(source)):
        raise RefusedFileError(path, "path outside the source")
    try:
        return open_ordinary(real)
    except FileNotFoundError:
        raise RefusedFileError(path, FILE_MISSING) from None
    except OSError as error:
        raise RefusedFileError(path, "file not readable", error.strerror or str(error)) from None


def read_small(source: Path, path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes; RefusedFileError as `opened`, and for more."""
    with opened(source, path) as file:
        small = os.fstat(file.fileno()).st_size <= most
        if not small or len(content := file.read(most + 1)) > most:
            raise RefusedFileError(path, "file too large", f"at most {most} bytes")
        return content


def small_text(source: Path, path: Path, closed: list[Rejection]) -> str:
    """The text of a small side file (Latin-1); none where it is missing, nor where it is not to be
    read, which goes to `closed`."""
    try:
        return read_small(source, path, MAX_TEXT_BYTES).decode("latin-1")
    except RefusedFileError as error:
        if error.reason != FILE_MISSING:
            name = path.relative_to(source).as_posix()
            closed.append(Rejection(name=name, reason=error.reason, detail=error.detail))
        return ""


def path_below(source: Path, text: str) -> tuple[str, Path | None]:
    """The tidy name of a listed file and its path, or None where it leads out of the source.

    Absolute paths, those of a Windows drive and `..` are outside, and so is the folder itself; `\\`
    separates as `/` does. Links are `sound`'s matter.
    """
    name = PurePosixPath(text.replace("\\", "/"))
    above = name.is_absolute() or ".." in name.parts or DRIVE.match(str(name))
    if not name.parts or above or "\0" in text:
        return text, None
    return str(name), source / name


def sound(source: Path, scan: Scan) -> Scan:
    """The scan with the faces rejected whose files no worker may read, or that no table can hold.

    These lie, by links, outside of the source; or in a folder that may not be entered; or have a
    name that is no Unicode or that of a face before it, a frame number that is too large, a subject
    or clip that is too long.
    """
    root = Path(os.path.realpath(source if source.is_dir() else source.parent))
    folders: dict[Path, str] = {}
    faces: dict[str, SourceFace] = {}
    rejected = [replace(one, name=printable(one.name)) for one in scan.rejected]
    for face in scan.faces:
        name = printable(face.name)
        reason = "" if face.path is None else _why_closed(root, face.path, folders)
        reason = reason or _why_too_large(face)
        if name != face.name:
            reason = "name not Unicode"
        elif name in faces:
            reason = "listed twice"
        if reason:
            rejected.append(Rejection(name=name, reason=reason))
        else:
            faces[name] = face
    return replace(scan, faces=tuple(faces.values()), rejected=tuple(rejected))


def printable(name: str) -> str:
    """A name as text that any file can hold: bytes that are no Unicode become `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _why_too_large(face: SourceFace) -> str:
    """Why a table cannot hold what is told of a face; nothing where it can."""
    if face.frame is not None and not 0 <= face.frame < FRAME_BOUND:
        return "frame out of range"
    for what in ("subject", "sitting", "sequence"):
        if len(getattr(face, what) or "") > MAX_CHARACTERS:
            return f"{what} too long"
    return ""


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
        return None if path.is_file() else FILE_MISSING
    except PermissionError:
        return "file not readable"
    except OSError:  # a name that is too long for any file
        return FILE_MISSING


def visible(folder: Path) -> list[Path]:
    """The entries of a folder in order of name, without lakes and the hidden ones of file
    managers."""
    with os.scandir(folder) as entries:
        found = [one for one in entries if not one.name.startswith(".") and not _is_lake(one)]
    return [folder / name for name in sorted(one.name for one in found)]


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder in order of name; none where there is no folder."""
    return list(filter(is_picture, visible(folder) if folder.is_dir() else []))


def strays(source: Path, folder: Path) -> Iterator[Rejection]:
    """What lies in a folder of pictures and is none by its name; nothing where there is none."""
    for path in visible(folder) if folder.is_dir() else ():
        if not is_picture(path):
            reason = "folder among pictures" if path.is_dir() else "not a picture"
            yield Rejection(name=path.relative_to(source).as_posix(), reason=reason)


def loose(source: Path, folder: Path, kind: str) -> Iterator[Rejection]:
    """The files that lie in a folder which has a folder for each `kind`."""
    for path in visible(folder):
        if not path.is_dir():
            name = path.relative_to(source).as_posix()
            yield Rejection(name=name, reason=f"in no folder of {kind}")


def unlisted(folder: Path, told: Container[str], table: Path) -> Iterator[Rejection]:
    """The files below a folder whose names there are not `told`, but for the table that lists."""
    for found in files_below(folder):
        if isinstance(found, Rejection):
            if found.name not in told:
                yield found
        elif found[0] not in told and found[1] != table:
            yield Rejection(name=found[0], reason="not listed", detail=table.name)


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
    """The visible folders in a folder in order of name, without lakes; quick among very many
    files."""
    with os.scandir(folder) as entries:
        shown = [one for one in entries if _is_folder(one) and not one.name.startswith(".")]
        found = [one.path for one in shown if not holds_lakes(one.path)]
    return [Path(path) for path in sorted(found)]


def _is_lake(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) and holds_lakes(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def file_named(source: Path, *names: str) -> Path | None:
    """The first of these files at or a few levels below the source, the shallowest first."""
    level = [source]
    for _ in range(SEARCH_DEPTH + 1):
        for folder in level:
            for name in names:
                if (found := folder / name).exists() and not found.is_dir():
                    return found
        level = [path for folder in level for path in subfolders(folder)]
    return None


def unwrapped(folder: Path) -> Path:
    """The folder, or the one of the same name in it: archives are often unpacked that way."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def listed_faces(
    folder: Path,
    table: Path,
    rows: Iterable[tuple[int, SourceFace | Rejection]],
    expected: Mapping[str, int],
) -> Scan:
    """The faces of a table whose files lie below `folder`, in its order.

    `rows` are line numbers and faces without a path, or rejections, each named by the file as it is
    listed. Files that are missing, listed before, outside of the folder, or in it and not listed
    are rejected, the rest goes on.
    """
    faces: dict[str, SourceFace] = {}
    rejected: list[Rejection] = []
    for line, face in rows:
        name, path = path_below(folder, face.name)
        if isinstance(face, Rejection):
            rejected.append(replace(face, name=name))
            continue
        if path is None:
            reason = "path outside the source"
        elif name in faces:
            reason = "listed twice"
        elif (reason := why_no_file(path)) is None:
            faces[name] = replace(face, name=name, path=path)
            continue
        rejected.append(Rejection(name=name, reason=reason, detail=f"line {line}"))
    told = {*faces, *(one.name for one in rejected)}
    if folder.is_dir():
        rejected += unlisted(folder, told, table)
    return Scan(faces=tuple(faces.values()), rejected=tuple(rejected), expected=expected)

"""BU-4DFE (Yin et al., FG 2008): moving 3D faces, of which the textures are taken."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from data_service.corpora._files import (
    existing_folder,
    frame_number,
    pictures,
    visible,
)
from data_service.corpora._sequences import SEQUENCE_MISSING, apex_frames
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "bu4dfe"
DESCRIPTION = (
    "BU-4DFE: 606 moving 3D faces of 101 subjects, 6 expressions; the textures at the peak"
)
LAYOUT = """\
SOURCE/                          at most a few folders deep
  F001/Angry/000.jpg 000.mtl 000.obj 001.jpg ...
  F001..F058 M001..M043 / {Angry|Disgust|Fear|Happy|Sad|Surprise}
BU_WrlViewer_V2 and landmarks (.bnd) are left alone
options: frames=3 (around the middle of each sequence, where the expression peaks, at most its
middle third), neutral=False (the first frame as neutral), clips=False (all other frames too,
without a label)"""
FOLDERS: Mapping[str, Expression] = {
    "angry": Expression.ANGER,
    "disgust": Expression.DISGUST,
    "fear": Expression.FEAR,
    "happy": Expression.HAPPINESS,
    "sad": Expression.SADNESS,
    "surprise": Expression.SURPRISE,
}
EXPECTED: Mapping[str, int] = {
    "subjects": 101,
    "sequences": 606,
    **{f"sequences/{expression}": 101 for expression in FOLDERS.values()},
}
LIKE_A_SUBJECT = re.compile(r"[FM]\d{3}", re.IGNORECASE)
SUBJECT = re.compile(r"F0(?:0[1-9]|[1-4]\d|5[0-8])|M0(?:0[1-9]|[1-3]\d|4[0-3])", re.IGNORECASE)
VIEWER = "bu_wrlviewer_v2"
MESHES = (".mtl", ".obj", ".wrl", ".bnd")
LEFT_ALONE = (*(f"*{suffix}" for suffix in MESHES), "*BU_WrlViewer_V2/*")
SEARCH_DEPTH = 3


def scan(
    source: Path | None, *, frames: int = 3, neutral: bool = False, clips: bool = False
) -> Scan:
    """The `frames` textures in the middle of each sequence; its first as neutral, if wanted, and
    with `clips` the others without a label.

    A sequence runs from neutral over the peak back to neutral, so that its peak is about in the
    middle; the middle is told by the frames' numbers, which holds where some are missing. Folders
    that hold neither textures nor landmarks, subjects without a folder of an expression, sequences
    without their middle, missing or found twice, and files of other kinds are rejected. ValueError
    for a folder without subjects, and for one that is no expression.
    """
    source = existing_folder(source, NAME, "folders such as F001/Angry/000.jpg")
    if frames < 1:
        raise ValueError(f"{frames} frames of each sequence; valid: 1 or more")
    faces: list[SourceFace] = []
    rejected: list[Rejection] = []
    seen: set[tuple[str, Expression]] = set()
    told: set[tuple[str, Expression]] = set()
    for folder, expression in _sequences(source, rejected):
        name, subject = folder.relative_to(source).as_posix(), folder.parent.name.upper()
        files = _textures(folder)
        rejected += _others(source, folder, files)
        if not files:
            if not any(folder.glob("*.bnd")):
                rejected.append(Rejection(name=name, reason="no texture"))
                told.add((subject, expression))
        elif (subject, expression) in seen:
            rejected.append(Rejection(name=name, reason="sequence twice"))
        else:
            seen.add((subject, expression))
            chosen = apex_frames(
                sorted(files), expression, frames=frames, neutral=neutral, clips=clips
            )
            if expression not in chosen.values():
                rejected.append(Rejection(name=name, reason="no frame in the middle"))
            else:
                faces += (_face(source, files[one], label) for one, label in chosen.items())
    if not seen and not rejected:
        raise ValueError(f"no folder such as F001/Angry in {source}; {NAME} has 101 subjects")
    rejected += _missing(seen, told)
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED)


def _textures(folder: Path) -> dict[int, Path]:
    """The first texture of each frame's number."""
    found: dict[int, Path] = {}
    for path in pictures(folder):
        if (number := frame_number(path)) is not None:
            found.setdefault(number, path)
    return found


def _others(source: Path, folder: Path, textures: Mapping[int, Path]) -> Iterator[Rejection]:
    """The files of a sequence that are neither textures nor of its meshes and landmarks."""
    taken = set(textures.values())
    for path in visible(folder):
        if path not in taken and path.suffix.lower() not in MESHES:
            name = path.relative_to(source).as_posix()
            yield Rejection(name=name, reason="name not of the corpus")


def _missing(
    seen: Collection[tuple[str, Expression]], told: Collection[tuple[str, Expression]]
) -> Iterator[Rejection]:
    """The sequences of which a subject that has others has no folder, and nothing is told."""
    for subject in sorted({subject for subject, _ in seen}):
        for name, expression in FOLDERS.items():
            if (subject, expression) not in seen and (subject, expression) not in told:
                yield Rejection(name=f"{subject}/{name.capitalize()}", reason=SEQUENCE_MISSING)


def _sequences(source: Path, rejected: list[Rejection]) -> Iterator[tuple[Path, Expression]]:
    """The folders of expressions below folders of subjects, wherever these lie, also where an
    archive was unpacked into a folder of its name; subjects without any, and those whom the corpus
    does not have, go to `rejected`."""
    for subject in _subjects(source, SEARCH_DEPTH):
        name = subject.relative_to(source).as_posix()
        if not SUBJECT.fullmatch(subject.name):
            rejected.append(Rejection(name=name, reason="name not of the corpus"))
            continue
        found = [*_expressions(subject), *_expressions(subject / subject.name)]
        if not found:
            rejected.append(Rejection(name=name, reason="no folder of an expression"))
        yield from found


def _expressions(subject: Path) -> Iterator[tuple[Path, Expression]]:
    for folder in filter(Path.is_dir, visible(subject) if subject.is_dir() else ()):
        expression = FOLDERS.get(folder.name.lower())
        if expression is not None:
            yield folder, expression
        elif pictures(folder):
            raise ValueError(f"{folder}: unknown expression; valid: {', '.join(FOLDERS)}")


def _subjects(folder: Path, depth: int) -> Iterator[Path]:
    for path in filter(Path.is_dir, visible(folder)):
        if LIKE_A_SUBJECT.fullmatch(path.name):
            yield path
        elif depth and path.name.lower() != VIEWER:
            yield from _subjects(path, depth - 1)


def _face(source: Path, path: Path, expression: Expression | None) -> SourceFace:
    subject, folder = path.parts[-3:-1]
    return SourceFace(
        name=path.relative_to(source).as_posix(),
        subject=subject.upper(),
        expression=expression,
        path=path,
        sequence=f"{subject.upper()}/{folder}",
        frame=frame_number(path),
    )

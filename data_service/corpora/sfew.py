"""SFEW 2.0 (Dhall et al., ICCV workshops 2011; EmotiW 2015)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from data_service.corpora._class_folders import class_folders
from data_service.corpora._files import (
    NO_PICTURE,
    existing_folder,
    folders_named,
    subfolders,
    unwrapped,
)
from data_service.corpora._parts import outside_parts
from data_service.corpora._walk import files_below
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "sfew"
DESCRIPTION = "SFEW 2.0: faces from films, 7 expressions, persons apart between the parts"
LAYOUT = """\
SOURCE/               at most a few folders deep
  .../Train/Train_Aligned_Faces/Angry/Airheads_000519240_00000005.png
  .../Val/Val_Aligned_Faces_new/Angry/*.png     Angry Disgust Fear Happy Neutral Sad Surprise
  .../Train/Angry/*.png  Val/Angry/*.png        the frames of the films
split: Train is train; Val is test, because the labels of Test are not published: it is refused.
No subjects; film and time in a name tell its clip, whose frames stay together in every fold.
options: images=aligned (by the owners, placed anew) or frames"""
FOLDERS: Mapping[str, Expression] = {
    "angry": Expression.ANGER,
    "disgust": Expression.DISGUST,
    "fear": Expression.FEAR,
    "happy": Expression.HAPPINESS,
    "neutral": Expression.NEUTRAL,
    "sad": Expression.SADNESS,
    "surprise": Expression.SURPRISE,
}
EXPECTED: Mapping[str, int] = {"faces": 1_394, "split/train": 958, "split/test": 436}
SPLITS: Mapping[str, str] = {"Train": "train", "Val": "test"}
ALIGNED = {
    "Train": ("Train_Aligned_Faces", "Train_Aligned_Faces_new"),
    "Val": ("Val_Aligned_Faces_new", "Val_Aligned_Faces"),
    "Test": ("Test_Aligned_Faces", "Test_Aligned_Faces_new"),
}
SPELT = [spelt for name in FOLDERS for spelt in (name, name.capitalize(), name.upper())]
LEFT_ALONE = tuple(f"*{part}/{name}/*" for part in SPLITS for name in SPELT)
"""The frames, where the aligned faces are taken."""
ALIGNED_ALONE = tuple(f"*{name}/*" for names in ALIGNED.values() for name in names)
"""The aligned faces, where the frames are taken."""
CLIP = re.compile(r"(.+_\d{6,})_\d+")
"""Film and time, of which there may be several frames; then the frame."""


def scan(source: Path | None, *, images: Literal["aligned", "frames"] = "aligned") -> Scan:
    """The faces of both labelled parts; pictures without a label, those of Test too, are rejected.

    ValueError for a folder that lacks a part, or has no folder of an expression in either.
    """
    source = existing_folder(source, NAME, "a folder with Train/Train_Aligned_Faces/Angry/*.png")
    faces: list[SourceFace] = []
    rejected: list[Rejection] = []
    taken: list[Path] = []
    for part, split in SPLITS.items():
        folder = _part(source, part, images)
        if folder is None:
            names = " or ".join(_names(part, images))
            raise ValueError(f"no folder {names} in {source}; {NAME} needs Train and Val")
        found, refused = class_folders(source, folder, FOLDERS, split, _aligned_in(folder))
        if not found and not refused:
            name = folder.relative_to(source).as_posix()
            rejected.append(Rejection(name=name, reason=NO_PICTURE))
        faces += map(_of_clip, found)
        rejected += refused
        taken.append(folder)
    if not faces:
        raise ValueError(
            f"no part in {source} has a folder such as Angry with pictures; {NAME} needs one for "
            "each expression"
        )
    for kind in ("aligned", "frames") if images == "aligned" else ("frames",):
        if folder := _part(source, "Test", kind):
            rejected += _withheld(source, folder)
            taken.append(folder)
    left_alone = LEFT_ALONE if images == "aligned" else ALIGNED_ALONE
    rejected += outside_parts(source, taken, left_alone)
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED)


def _of_clip(face: SourceFace) -> SourceFace:
    """The face with the clip that its name tells, where it tells one."""
    clip = CLIP.fullmatch(Path(face.name).stem)
    return replace(face, sequence=clip[1]) if clip else face


def _names(part: str, images: str) -> tuple[str, ...]:
    return ALIGNED[part] if images == "aligned" else (part,)


def _part(source: Path, part: str, images: str) -> Path | None:
    for name in _names(part, images):
        for folder in folders_named(source, name):
            return unwrapped(folder)
    return None


def _aligned_in(folder: Path) -> list[str]:
    """The folders of aligned faces, which lie among those of the frames' expressions."""
    return [path.name for path in subfolders(folder) if "_Aligned_Faces" in path.name]


def _withheld(source: Path, folder: Path) -> Iterator[Rejection]:
    """The pictures of the part whose labels are not published."""
    aligned = _aligned_in(folder)
    for found in files_below(folder):
        if isinstance(found, Rejection):
            name = (folder / found.name).relative_to(source).as_posix()
            yield replace(found, name=name)
        elif Path(found[0]).parts[0] not in aligned:
            name = found[1].relative_to(source).as_posix()
            yield Rejection(name=name, reason="labels withheld", detail="part Test")

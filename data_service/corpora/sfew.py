"""SFEW 2.0 (Dhall et al., ICCV workshops 2011; EmotiW 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from data_service.corpora._class_folders import class_folders
from data_service.corpora._files import (
    existing_folder,
    folders_named,
    pictures,
    subfolders,
    unwrapped,
)
from data_service.schema import Expression, Scan, SourceFace

NAME = "sfew"
DESCRIPTION = "SFEW 2.0: faces from films, 7 expressions, persons apart between the parts"
LAYOUT = """\
SOURCE/               at most a few folders deep
  .../Train/Train_Aligned_Faces/Angry/Airheads_000519240_00000005.png
  .../Val/Val_Aligned_Faces_new/Angry/*.png     Angry Disgust Fear Happy Neutral Sad Surprise
  .../Train/Angry/*.png  Val/Angry/*.png        the frames of the films
split: Train is train; Val is test, because the labels of Test are not published.
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
}


def scan(source: Path | None, *, images: Literal["aligned", "frames"] = "aligned") -> Scan:
    """The faces of both labelled parts.

    ValueError for a folder that lacks a part, or has one without a folder for each expression.
    """
    source = existing_folder(source, NAME, "a folder with Train/Train_Aligned_Faces/Angry/*.png")
    faces: list[SourceFace] = []
    for part, split in SPLITS.items():
        folder = _part(source, part, images)
        ignored = [path.name for path in subfolders(folder) if "_Aligned_Faces" in path.name]
        found = list(class_folders(folder, FOLDERS, ignored))
        if not found:
            raise ValueError(_no_classes(folder))
        faces += (
            SourceFace(
                name=path.relative_to(source).as_posix(),
                subject=None,
                expression=expression,
                path=path,
                split=split,
            )
            for path, expression in found
        )
    return Scan(faces=tuple(faces), expected=EXPECTED)


def _part(source: Path, part: str, images: str) -> Path:
    names = ALIGNED[part] if images == "aligned" else (part,)
    for name in names:
        for folder in folders_named(source, name):
            return unwrapped(folder)
    raise ValueError(f"no folder {' or '.join(names)} in {source}; {NAME} needs Train and Val")


def _no_classes(folder: Path) -> str:
    flat = len(pictures(folder))
    told = f"{flat} pictures but no folder Angry" if flat else "no folder Angry"
    return f"{folder} has {told}; {NAME} needs one folder for each expression"

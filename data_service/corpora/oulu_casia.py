"""Oulu-CASIA NIR & VIS (Zhao et al., Image and Vision Computing 29(9), 2011)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from data_service.corpora._files import (
    existing_folder,
    folders_named,
    frame_number,
    loose,
    pictures,
    strays,
    visible,
)
from data_service.corpora._sequences import (
    SEQUENCE_MISSING,
    few_frames,
    labelled_frames,
    needed_frames,
)
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "oulu_casia"
DESCRIPTION = "Oulu-CASIA NIR & VIS: 480 sequences of 80 subjects for each camera and light"
LAYOUT = """\
SOURCE/             at most a few folders deep
  .../VL/Strong/P001/Anger/000.jpeg 001.jpeg ...
  {NI|VL}/{Strong|Weak|Dark}/P001..P080/{Anger|Disgust|Fear|Happiness|Sadness|Surprise}
  .../VL_Acropped/Strong/P001/Anger/000.jpeg    the faces as the owners cut them out: placed anew;
                                                their number was not checked against a copy
options: camera=VL, light=Strong, frames=3 (the last of each sequence), neutral=False (the first
frame as neutral), clips=False (all other frames too, without a label), images=either (original,
where there are such frames, else cropped), original or cropped
a sequence with fewer frames than that is refused: its neutral start would pass for its peak"""
FOLDERS: Mapping[str, Expression] = {
    "anger": Expression.ANGER,
    "disgust": Expression.DISGUST,
    "fear": Expression.FEAR,
    "happiness": Expression.HAPPINESS,
    "sadness": Expression.SADNESS,
    "surprise": Expression.SURPRISE,
}
CAMERAS: Mapping[str, tuple[str, ...]] = {
    "either": ("{}", "{}_Acropped"),
    "original": ("{}",),
    "cropped": ("{}_Acropped",),
}
"""What the folder of a camera may be called; the first that is there is taken."""
LEFT_ALONE = ("*/NI/*", "*/Weak/*", "*/Dark/*", "*_Acropped/*")
FOLDS = "blocks"
"""Eight subjects that follow each other in order of name are tested together."""
EXPECTED: Mapping[str, int] = {
    "subjects": 80,
    **{f"sequences/{expression}": 80 for expression in FOLDERS.values()},
}


def scan(
    source: Path | None,
    *,
    camera: Literal["VL", "NI"] = "VL",
    light: Literal["Strong", "Weak", "Dark"] = "Strong",
    frames: int = 3,
    neutral: bool = False,
    clips: bool = False,
    images: Literal["either", "original", "cropped"] = "either",
) -> Scan:
    """The last `frames` frames of each sequence of one camera and light; its first as neutral, if
    wanted.

    Cropped faces are placed anew: how the owners aligned them is not known. Sequences that are
    missing or have fewer frames, and files that are no pictures, are rejected. ValueError for a
    folder without that camera and light, and for a folder that is no expression.
    """
    cameras = [name.format(camera) for name in CAMERAS[images]]
    valid = f"a folder with {cameras[0]}/{light}/P001/Anger/000.jpeg"
    source = existing_folder(source, NAME, valid)
    if frames < 1:
        raise ValueError(f"{frames} frames of each sequence; valid: 1 or more")
    needed = needed_frames(frames, neutral)
    top = _light_folder(source, cameras, light)
    faces: list[SourceFace] = []
    rejected = list(loose(source, top, "a subject"))
    for subject in filter(Path.is_dir, visible(top)):
        rejected += loose(source, subject, "an expression")
        found: set[str] = set()
        for folder in filter(Path.is_dir, visible(subject)):
            expression = FOLDERS.get(folder.name.lower())
            if expression is None:
                raise ValueError(f"{folder}: unknown expression; valid: {', '.join(FOLDERS)}")
            found.add(folder.name.lower())
            rejected += strays(source, folder)
            files, name = pictures(folder), folder.relative_to(source).as_posix()
            if len(files) < needed:
                rejected.append(few_frames(name, len(files), needed))
                continue
            chosen = labelled_frames(files, expression, frames=frames, neutral=neutral, clips=clips)
            faces += (_face(source, path, label, camera) for path, label in chosen)
        name = subject.relative_to(source).as_posix()
        rejected += (
            Rejection(name=f"{name}/{one.capitalize()}", reason=SEQUENCE_MISSING)
            for one in FOLDERS
            if one not in found
        )
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED)


def _light_folder(source: Path, cameras: Sequence[str], light: str) -> Path:
    """The folder of the subjects, of the first of the cameras' names that is there. The source may
    also be the camera's or the light's own parent."""
    for camera in cameras:
        found = [folder / light for folder in folders_named(source, camera)]
        found = [folder for folder in found if folder.is_dir()]
        if len(found) > 1:
            places = ", ".join(str(folder) for folder in found)
            told = f"several folders {camera}/{light}: {places}"
            raise ValueError(f"{told}; valid: a source with one")
        if found:
            return found[0]
    wanted = f"{cameras[0]}/{light}"
    raise ValueError(f"no folder {wanted} in {source}; {NAME} needs {wanted}/P001/Anger/000.jpeg")


def _face(source: Path, path: Path, expression: Expression | None, camera: str) -> SourceFace:
    light, subject, folder = path.parts[-4:-1]
    return SourceFace(
        name=path.relative_to(source).as_posix(),
        subject=subject,
        expression=expression,
        path=path,
        sequence=f"{camera}/{light}/{subject}/{folder}",
        frame=frame_number(path),
    )

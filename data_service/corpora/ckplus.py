"""Extended Cohn-Kanade, CK+ (Lucey et al., CVPR workshops 2010)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_service.corpora._files import (
    existing_folder,
    folders_named,
    frame_number,
    loose,
    pictures,
    small_text,
    strays,
    subfolders,
    visible,
)
from data_service.corpora._points import landmarks
from data_service.corpora._sequences import few_frames, labelled_frames, needed_frames
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "ckplus"
DESCRIPTION = (
    "Extended Cohn-Kanade (CK+): 327 labelled sequences from neutral to peak, 7 expressions"
)
LAYOUT = """\
SOURCE/             the archives unpacked, at most a few folders deep
  .../cohn-kanade-images/S005/001/S005_001_00000001.png ... S005_001_00000011.png
  .../Emotion/S005/001/S005_001_00000011_emotion.txt        3.0000000e+00
  .../Landmarks/S005/001/S005_001_00000011_landmarks.txt    68 lines of x y (optional)
options: frames=3 (the last of each sequence), neutral=True (the first frame as neutral),
clips=False (all other frames too, without a label)
sequences without a label or with several, those with fewer frames, and frames behind the one that
the label names, which is the peak by the corpus' protocol, are refused"""
CODES: Mapping[int, Expression] = {
    1: Expression.ANGER,
    2: Expression.CONTEMPT,
    3: Expression.DISGUST,
    4: Expression.FEAR,
    5: Expression.HAPPINESS,
    6: Expression.SADNESS,
    7: Expression.SURPRISE,
}
EXPECTED: Mapping[str, int] = {
    "sequences/anger": 45,
    "sequences/contempt": 18,
    "sequences/disgust": 59,
    "sequences/fear": 25,
    "sequences/happiness": 69,
    "sequences/sadness": 28,
    "sequences/surprise": 83,
}
LEFT_ALONE = ("*/Emotion/*", "*/Landmarks/*", "*/FACS/*")
FOLDS = "interval"
"""Every tenth subject in order of name is tested together (Liu et al., ACCV 2014)."""
NUM_LANDMARKS = 68


def scan(
    source: Path | None, *, frames: int = 3, neutral: bool = True, clips: bool = False
) -> Scan:
    """The last `frames` frames of each labelled sequence and, as neutral, its first; with `clips`
    the frames between them too, without a label.

    Sequences without a label and frames behind the labelled peak are rejected, as the corpus
    intends. ValueError for a folder that
    lacks images or labels, and for a code that the corpus does not have.
    """
    source = existing_folder(source, NAME, "a folder with cohn-kanade-images/ and Emotion/")
    if frames < 1:
        raise ValueError(f"{frames} frames of each sequence; valid: 1 or more")
    needed = needed_frames(frames, neutral)
    images = _one_folder(source, "cohn-kanade-images")
    landmarks = next(iter(folders_named(source, "Landmarks")), None)
    faces: list[SourceFace] = []
    rejected = list(loose(source, images, "a subject"))
    labelled: set[str] = set()
    labels = list(_labels(_one_folder(source, "Emotion")))
    labels_in = Counter(label.parent for label in labels)
    for label in labels:
        sequence = "/".join(label.parts[-3:-1])
        peak = label.name.removesuffix("_emotion.txt")
        labelled.add(sequence)
        rejected += strays(source, images / sequence)
        files = pictures(images / sequence)
        stems = [path.stem for path in files]
        name = label.relative_to(source).as_posix()
        closed = len(rejected)
        code = small_text(source, label, rejected).strip()
        if len(rejected) > closed:
            continue
        if labels_in[label.parent] > 1:
            rejected.append(Rejection(name=name, reason="several labels", detail=sequence))
        elif not code:
            rejected.append(Rejection(name=name, reason="empty label file"))
        elif peak not in stems:
            rejected.append(Rejection(name=name, reason="peak frame missing", detail=sequence))
        elif (found := stems.index(peak) + 1) < needed:
            rejected.append(few_frames(f"{images.name}/{sequence}", found, needed))
        else:
            rejected += (
                Rejection(name=path.relative_to(source).as_posix(), reason="behind the peak")
                for path in files[found:]
            )
            files = files[:found]
            chosen = labelled_frames(
                files, _expression(label, code), frames=frames, neutral=neutral, clips=clips
            )
            faces += (_face(source, *frame, landmarks, rejected) for frame in chosen)
    for subject in subfolders(images):
        rejected += loose(source, subject, "a sequence")
        rejected += (
            Rejection(name=folder.relative_to(source).as_posix(), reason="no emotion label")
            for folder in subfolders(subject)
            if f"{subject.name}/{folder.name}" not in labelled
        )
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED)


def _one_folder(source: Path, name: str) -> Path:
    found = folders_named(source, name)
    if not found:
        raise ValueError(
            f"no folder {name} in {source}; {NAME} needs cohn-kanade-images/S005/001/*.png "
            "and Emotion/S005/001/*_emotion.txt"
        )
    return found[0]


def _labels(folder: Path) -> Iterator[Path]:
    """The label files; the folder of an unlabelled sequence is empty or missing."""
    for subject in filter(Path.is_dir, visible(folder)):
        for sequence in filter(Path.is_dir, visible(subject)):
            yield from (path for path in visible(sequence) if path.name.endswith("_emotion.txt"))


def _expression(label: Path, code: str) -> Expression:
    with suppress(ValueError):
        number = float(code)
        if number.is_integer() and int(number) in CODES:
            return CODES[int(number)]
    valid = ", ".join(f"{number} {expression}" for number, expression in CODES.items())
    raise ValueError(f"{label}, line 1: unknown code '{code[:40]}'; valid: {valid}")


def _face(
    source: Path,
    path: Path,
    expression: Expression | None,
    points: Path | None,
    closed: list[Rejection],
) -> SourceFace:
    subject, sequence = path.parts[-3:-1]
    points_L3 = None
    if points:
        file = points / subject / sequence / f"{path.stem}_landmarks.txt"
        points_L3 = _landmarks(source, file, closed)
    return SourceFace(
        name=path.relative_to(source).as_posix(),
        subject=subject,
        expression=expression,
        path=path,
        sequence=f"{subject}/{sequence}",
        frame=frame_number(path),
        landmarks_L3=points_L3,
    )


def _landmarks(source: Path, path: Path, closed: list[Rejection]) -> np.ndarray | None:
    """The 68 points of a frame, with full confidence.

    None where the corpus has no complete file of them, or they are no face; then the detector
    places the face, and the lake's `alignment` says so. A file that is not to be read goes to
    `closed`.
    """
    return landmarks(small_text(source, path, closed).split(), NUM_LANDMARKS)

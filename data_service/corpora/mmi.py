"""MMI facial expression database (Pantic et al., ICME 2005; Valstar and Pantic, 2010)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np

from data_service.alignment import video
from data_service.alignment.decode import UnreadableImageError
from data_service.corpora._files import (
    FILE_MISSING,
    RefusedFileError,
    existing_folder,
    folders_named,
    is_picture,
    loose,
    opened,
    pictures,
    read_small,
    visible,
)
from data_service.corpora._labels import of_code
from data_service.corpora._sequences import apex_frames
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "mmi"
DESCRIPTION = (
    "MMI: videos from neutral to apex and back, 6 expressions; 208 of 31 subjects are usual"
)
LAYOUT = """\
SOURCE/               one or several downloads unpacked, at most a few folders deep
  .../Sessions/1767/session.xml     <track view="0">    0 frontal, 1 profile, 2 both, in a mirror
  .../Sessions/1767/S021-001.avi    or pictures, where a session has stills
  .../Sessions/1767/S021-001.xml    <Metatag Name="Emotion" Value="1"/>
emotions: 1 anger 2 disgust 3 fear 4 happiness 5 sadness 6 surprise; others are refused
options: frames=3 (the middle ones of each video, at most its middle third), neutral=False (the
first frame as neutral), clips=False (all other frames too, without a label), stills=False
The way up is found by the detector, and in a mirror the half that shows the face from the front."""
CODES: Mapping[int, Expression] = {
    1: Expression.ANGER,
    2: Expression.DISGUST,
    3: Expression.FEAR,
    4: Expression.HAPPINESS,
    5: Expression.SADNESS,
    6: Expression.SURPRISE,
}
EXPECTED: Mapping[str, int] = {
    "subjects": 31,
    "sequences": 208,
    "sequences/anger": 33,
    "sequences/disgust": 32,
    "sequences/fear": 28,
    "sequences/happiness": 42,
    "sequences/sadness": 32,
    "sequences/surprise": 41,
}
"""What papers use most often; the download may hold more."""
VIEWS: Mapping[str, tuple[str, ...] | None] = {
    "0": ("whole", "clockwise", "anticlockwise"),
    "1": None,
    "2": ("left", "right"),
}
"""Where to look for the frontal face, by the session's view."""
STEM = re.compile(r"(?P<subject>S\d+)-\d+", re.IGNORECASE)
MOST_BYTES = 1 << 20
LEFT_ALONE = ("*.xml",)


class _RefusedError(Exception):
    """Why a session gives no face: a short reason, and what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def scan(
    source: Path | None,
    *,
    frames: int = 3,
    neutral: bool = False,
    clips: bool = False,
    stills: bool = False,
) -> Scan:
    """The apex frames of each session with one of the six emotions; other sessions are rejected.

    Nobody marked the apex: it is taken to be the middle, as the literature does. Videos are
    counted, not decoded. ValueError for a folder without sessions.
    """
    source = existing_folder(source, NAME, "a folder with Sessions/1767/session.xml")
    if frames < 1:
        raise ValueError(f"{frames} frames of each sequence; valid: 1 or more")
    roots = folders_named(source, "Sessions")
    if not roots:
        raise ValueError(f"no folder Sessions in {source}; {NAME} needs Sessions/1767/session.xml")
    faces: list[SourceFace] = []
    rejected = [one for root in roots for one in loose(source, root, "a session")]
    seen: set[str] = set()
    for folder in (path for root in roots for path in visible(root) if path.is_dir()):
        name = folder.relative_to(source).as_posix()
        try:
            if folder.name in seen:
                raise _RefusedError("session twice")
            before = len(faces)
            faces += _session(source, folder, frames, neutral, clips, stills)
            seen.add(folder.name)
            rejected += _others(source, folder, {face.path for face in faces[before:]})
        except _RefusedError as refused:
            rejected.append(Rejection(name=name, reason=refused.reason, detail=refused.detail))
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED)


def read_pictures(
    path: Path, faces: Sequence[SourceFace]
) -> Iterator[np.ndarray | UnreadableImageError]:
    """The frames of one video, uint8 H x W x 3."""
    return video.read_frames(path, [face.frame or 0 for face in faces])


def _session(
    source: Path, folder: Path, frames: int, neutral: bool, clips: bool, stills: bool
) -> list[SourceFace]:
    """The faces of one session."""
    path, files = _files(folder, stills)
    match = STEM.match(path.stem)
    if match is None:
        raise _RefusedError("no subject in the name", path.name)
    subject, expression = match["subject"].upper(), _emotion(source, path.with_suffix(".xml"))
    options = {"views": list(_views(source, folder / "session.xml", path.stem))}
    name, sequence = path.relative_to(source).as_posix(), f"{folder.name}/{path.stem}"
    if files:
        return [
            SourceFace(
                name=file.relative_to(source).as_posix(),
                subject=subject,
                expression=expression,
                path=file,
                options=options,
            )
            for file in files
        ]
    labels = apex_frames(
        range(_length(source, path)), expression, frames=frames, neutral=neutral, clips=clips
    )
    return [
        SourceFace(
            name=f"{name}#{frame:05d}",
            subject=subject,
            expression=label,
            path=path,
            sequence=sequence,
            frame=frame,
            options=options,
        )
        for frame, label in labels.items()
    ]


def _files(folder: Path, stills: bool) -> tuple[Path, list[Path]]:
    """The video of a session, or the first of its stills with all of them."""
    videos = [path for path in visible(folder) if path.suffix.lower() in video.SUFFIXES]
    images = pictures(folder)
    if len(videos) > 1:
        raise _RefusedError("several videos", ", ".join(path.name for path in videos))
    if videos:
        return videos[0], []
    if images and stills:
        return images[0], images
    raise _RefusedError("still images" if images else "no video")


def _others(source: Path, folder: Path, taken: Collection[Path | None]) -> Iterator[Rejection]:
    """The files of a session that are neither taken nor tell of it."""
    for path in visible(folder):
        if path not in taken and path.suffix.lower() != ".xml":
            reason = "beside a video" if is_picture(path) else "name not of the corpus"
            yield Rejection(name=path.relative_to(source).as_posix(), reason=reason)


def _length(source: Path, path: Path) -> int:
    try:
        opened(source, path).close()
        return video.count_frames(path)
    except (RefusedFileError, UnreadableImageError) as error:
        raise _RefusedError(error.reason, error.detail) from None


def _emotion(source: Path, path: Path) -> Expression:
    """The emotion in the metatag of that name, wherever it stands."""
    for name, told in _elements(source, path):
        if name == "metatag" and told.get("Name", "").lower() == "emotion":
            value = told.get("Value", "").strip()
            expression = of_code(value, CODES)
            if expression is None:
                raise _RefusedError("emotion outside the six", f"code {value[:40]}")
            return expression
    raise _RefusedError("no emotion label")


def _views(source: Path, path: Path, stem: str) -> tuple[str, ...]:
    """Where to look for the frontal face, by the track of that file or of the whole session."""
    tracks = [told for name, told in _elements(source, path) if name == "track"]
    own = [track for track in tracks if stem in track.get("filename", "")] or tracks
    found = sorted({track.get("view", "").strip() for track in own})
    if len(found) != 1 or found[0] not in VIEWS:
        raise _RefusedError("view unknown", ", ".join(found) or "session.xml names none")
    views = VIEWS[found[0]]
    if views is None:
        raise _RefusedError("profile view")
    return views


def _elements(source: Path, path: Path) -> list[tuple[str, dict[str, str]]]:
    """Name, in small letters and without its prefix, and attributes of each element of a small XML
    file. A document type, which could make it grow, is refused in any encoding."""
    found: list[tuple[str, dict[str, str]]] = []

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, told: found.append(
        (name.rpartition(":")[2].lower(), told)
    )
    try:
        parser.Parse(read_small(source, path, MOST_BYTES), True)
    except RefusedFileError as error:
        reason = "XML file missing" if error.reason == FILE_MISSING else error.reason
        raise _RefusedError(reason, path.name) from None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise _RefusedError("damaged XML file", f"{path.name}: {error}") from None
    return found

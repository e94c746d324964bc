"""CASIA-WebFace (Yi et al., arXiv 1411.7923, 2014): faces of 10,575 identities, no expressions."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from data_service.corpora._files import existing_folder, visible
from data_service.corpora._walk import faces_named, name_pattern
from data_service.schema import Rejection, Scan, SourceFace

NAME = "casia_webface"
DESCRIPTION = "CASIA-WebFace: 494,414 pictures of 10,575 identities, to learn identity from"
LAYOUT = """\
SOURCE/                      or the folder above it
  0000045/001.jpg ...        a folder of digits for each identity
  names.txt                  not needed
options: aligned=False (True: a copy whose pictures are aligned faces already)
no picture has an expression; InsightFace's train.rec must be unpacked to such folders first"""
EXPECTED: Mapping[str, int] = {"faces": 494_414, "subjects": 10_575}
PATTERNS = (name_pattern("{subject}/*"), name_pattern("*/{subject}/*"))
LEFT_ALONE = ("*names.txt", "*readme.txt", "*license.txt")


def scan(source: Path | None, *, aligned: bool = False) -> Scan:
    """Every picture in a folder of digits, the identity; other files are rejected.

    ValueError for a source without such folders at most one level down.
    """
    source = existing_folder(source, NAME, "folders such as 0000045 with pictures")
    if any(path.suffix == ".rec" for path in visible(source)):
        raise ValueError(
            f"{source} holds records (.rec); {NAME} needs them unpacked: 0000045/001.jpg"
        )
    tops = [path for path in visible(source) if path.is_dir()]
    pattern = PATTERNS[0] if any(path.name.isdigit() for path in tops) else PATTERNS[1]
    faces, rejected = faces_named(source, pattern, _face)
    if not faces:
        raise ValueError(
            f"no folder of digits with pictures in {source}; {NAME} has 0000045/001.jpg"
        )
    rejected = [
        one
        for one in rejected
        if not any(fnmatch(one.name.lower(), pattern) for pattern in LEFT_ALONE)
    ]
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=EXPECTED, aligned=aligned)


def _face(name: str, path: Path, fields: Mapping[str, str]) -> SourceFace | Rejection:
    subject = fields["subject"]
    if not subject.isdigit():
        return Rejection(name=name, reason="name not of the corpus")
    return SourceFace(name=name, subject=subject, expression=None, path=path)

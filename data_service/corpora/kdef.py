"""KDEF, the Karolinska Directed Emotional Faces (Lundqvist, Flykt, Öhman, 1998)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from data_service.corpora._files import PICTURE_SUFFIXES, existing_folder
from data_service.corpora._walk import faces_named
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "kdef"
DESCRIPTION = "KDEF: 70 subjects, 7 expressions, 5 views, photographed in 2 sessions"
LAYOUT = """\
SOURCE/                at any depth
  AF01/AF01ANS.JPG     session A or B, F or M with a number from 01 to 35 (the subject),
                       AF AN DI HA NE SA SU (the expression), FL HL S HR FR (the view)
options: views=FL,HL,S,HR,FR (S: the frontal ones)
the attribute yaw is -90, -45, 0, 45, 90 for these views"""
LETTERS: Mapping[str, Expression] = {
    "AF": Expression.FEAR,
    "AN": Expression.ANGER,
    "DI": Expression.DISGUST,
    "HA": Expression.HAPPINESS,
    "NE": Expression.NEUTRAL,
    "SA": Expression.SADNESS,
    "SU": Expression.SURPRISE,
}
YAW: Mapping[str, float] = {"FL": -90.0, "HL": -45.0, "S": 0.0, "HR": 45.0, "FR": 90.0}
"""Degrees by view: a left profile shows the left cheek, so the face looks to the picture's left.
The sign follows from the codes' names (kdef.se); it was not checked against pictures."""
EXPECTED: Mapping[str, int] = {
    "faces": 4900,
    "subjects": 70,
    **{f"faces/{expression}": 700 for expression in LETTERS.values()},
}
STEM = re.compile(
    rf"(?:.*/)?(?P<session>[AB])(?P<subject>[FM](?:0[1-9]|[12]\d|3[0-5]))"
    rf"(?P<letters>{'|'.join(LETTERS)})(?P<view>{'|'.join(YAW)})",
    re.IGNORECASE,
)


def scan(source: Path | None, *, views: str = ",".join(YAW)) -> Scan:
    """The pictures of the chosen views; what is named otherwise, or lies there twice, is rejected.

    A subject is a letter with a number: both sessions show the same people. ValueError for a folder
    without a picture of the corpus, and for an unknown view.
    """
    source = existing_folder(source, NAME, "pictures such as AF01/AF01ANS.JPG")
    chosen = [view.strip().upper() for view in views.split(",")]
    if unknown := [view for view in chosen if view not in YAW]:
        raise ValueError(f"option views '{unknown[0]}' of {NAME}; valid: {', '.join(YAW)}")
    seen: set[str] = set()

    def face_of(name: str, path: Path, fields: Mapping[str, str]) -> SourceFace | Rejection:
        fields = {field: text.upper() for field, text in fields.items()}
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            return Rejection(name=name, reason="name not of the corpus")
        if path.stem.upper() in seen:
            return Rejection(name=name, reason="listed twice", detail=path.stem)
        seen.add(path.stem.upper())
        return SourceFace(
            name=name,
            subject=fields["subject"],
            expression=LETTERS[fields["letters"]],
            path=path,
            sitting=f"{fields['session']}/{fields['view']}",
            attributes={"yaw": YAW[fields["view"]]},
        )

    faces, rejected = faces_named(source, STEM, face_of)
    if not faces:
        raise ValueError(f"no picture such as AF01/AF01ANS.JPG in {source}; {NAME} has 4,900")
    wanted = {YAW[view] for view in chosen}
    faces = [face for face in faces if face.attributes["yaw"] in wanted]
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=_expected(len(wanted)))


def _expected(views: int) -> Mapping[str, int]:
    """The counts of a complete copy, of which some views are taken."""
    every = len(YAW)
    return {
        key: number if key == "subjects" else number * views // every
        for key, number in EXPECTED.items()
    }

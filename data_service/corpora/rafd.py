"""Radboud Faces Database, RaFD (Langner et al., Cognition and Emotion 24(8), 2010)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from data_service.corpora._files import existing_folder, is_picture
from data_service.corpora._walk import faces_named
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "rafd"
DESCRIPTION = "RaFD: 67 models, 8 expressions, 3 directions of gaze, 5 cameras, in a studio"
LAYOUT = """\
SOURCE/               pictures in it or in its folders
  Rafd090_28_Caucasian_male_angry_frontal.jpg
  camera 000 045 090 135 180, model, Caucasian|Moroccan|Kid, female|male, expression, gaze
expressions: angry contemptuous disgusted fearful happy neutral sad surprised
options: cameras=90 (the frontal one; several as 45,90,135), gaze=all (or frontal, left, right)
the attribute yaw is -90, -45, 0, 45, 90 for the cameras 000 045 090 135 180: their side is assumed
(000 sees a face that looks to the picture's left), as no source at hand tells it
pictures of the cameras and directions of gaze that are not chosen are left alone"""
EXPRESSIONS: Mapping[str, Expression] = {
    "angry": Expression.ANGER,
    "contemptuous": Expression.CONTEMPT,
    "disgusted": Expression.DISGUST,
    "fearful": Expression.FEAR,
    "happy": Expression.HAPPINESS,
    "neutral": Expression.NEUTRAL,
    "sad": Expression.SADNESS,
    "surprised": Expression.SURPRISE,
}
CAMERAS = (0, 45, 90, 135, 180)
FRONTAL = 90
GAZES = ("frontal", "left", "right")
LEFT_ALONE = tuple(f"*Rafd{camera:03d}_*" for camera in CAMERAS if camera != FRONTAL)
"""The other cameras, where the frontal one is taken."""
NUM_MODELS = 67
EXPECTED: Mapping[str, int] = {"subjects": NUM_MODELS, "faces": 1_608}
"""Of the frontal camera; `scan` tells what the chosen cameras and gazes would have."""
STEM = re.compile(
    r"(?:.*/)?rafd(?P<camera>000|045|090|135|180)_(?P<model>\d{1,2})_"
    r"(?P<group>caucasian|moroccan|kid)_(?P<sex>female|male)_"
    rf"(?P<expression>{'|'.join(EXPRESSIONS)})_(?P<gaze>{'|'.join(GAZES)})",
    re.IGNORECASE,
)


def scan(
    source: Path | None,
    *,
    cameras: str = "90",
    gaze: Literal["all", "frontal", "left", "right"] = "all",
) -> Scan:
    """The pictures of those cameras and directions of gaze; files with another name are rejected.

    ValueError for an unknown camera and for a folder without any such picture.
    """
    source = existing_folder(source, NAME, "a folder with Rafd090_28_Caucasian_male_angry_*.jpg")
    chosen = _cameras(cameras)
    seen: set[str] = set()

    def face_of(name: str, path: Path, fields: Mapping[str, str]) -> SourceFace | Rejection:
        if not is_picture(path):
            return Rejection(name=name, reason="name not of the corpus")
        if path.stem.lower() in seen:
            return Rejection(name=name, reason="listed twice", detail=path.stem)
        seen.add(path.stem.lower())
        fields = {field: text.lower() for field, text in fields.items()}
        return _face(name, path, fields)

    found, rejected = faces_named(source, STEM, face_of)
    if not found:
        raise ValueError(f"no Rafd090_*.jpg in {source}; {NAME} has 8,040 pictures of such names")
    faces = [
        face
        for face in found
        if face.attributes["camera"] in chosen and gaze in ("all", face.options["gaze"])
    ]
    per_model = len(chosen) * (len(GAZES) if gaze == "all" else 1)
    expected = {"subjects": NUM_MODELS, "faces": NUM_MODELS * len(EXPRESSIONS) * per_model}
    expected |= {f"faces/{one}": NUM_MODELS * per_model for one in EXPRESSIONS.values()}
    return Scan(faces=tuple(faces), rejected=tuple(rejected), expected=expected)


def _cameras(text: str) -> set[int]:
    try:
        chosen = {int(part) for part in text.split(",")}
    except ValueError:
        chosen = set()
    if not chosen or not chosen <= set(CAMERAS):
        valid = ", ".join(map(str, CAMERAS))
        raise ValueError(f"option cameras '{text}' of {NAME}; valid: some of {valid}, with commas")
    return chosen


def _face(name: str, path: Path, fields: Mapping[str, str]) -> SourceFace:
    return SourceFace(
        name=name,
        subject=f"model {int(fields['model']):02d}",
        expression=EXPRESSIONS[fields["expression"]],
        path=path,
        sitting=f"camera {fields['camera']}",
        attributes={
            "camera": float(fields["camera"]),
            "yaw": float(fields["camera"]) - FRONTAL,
            "female": float(fields["sex"] == "female"),
            "kid": float(fields["group"] == "kid"),
        },
        options={"gaze": fields["gaze"]},
    )

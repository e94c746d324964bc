"""The corpus `drawn`: faces that the program draws, for demos, tests and studies of intensity.

B faces. A subject comes to several sittings (takes), and each gives eight frames, one of every
expression: they share pose, light and backdrop but for small movements. All of it is hashed from
(seed, subject, take, frame), so a face is the same, bit for bit, in whatever batch and order it is
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_service.alignment.align import moved
from data_service.corpora._drawn_muscles import muscles
from data_service.corpora._drawn_paint import paint
from data_service.corpora._drawn_people import (
    EXPRESSIONS,
    Chance,
    Columns,
    keys,
    moments,
    people,
)
from data_service.corpora._drawn_scene import scene_matrices, scene_picture
from data_service.corpora._drawn_shape import landmarks, shape
from data_service.schema import Expression, Scan, SourceFace

NAME = "drawn"
DESCRIPTION = (
    "faces that the program draws itself: 8 expressions, continuous intensity, 68 landmarks"
)
LAYOUT = """\
No source is needed. Options: subjects (60), faces_per_subject (40), seed (0), size in pixels (128),
difficulty (1.0; 0 is a studio: frontal, even light, no noise, nothing in front of the face), scenes
(false; true leaves heads small, turned and anywhere in the picture, which nobody then aligns),
imbalance (1; N leaves N times as many happy faces as contemptuous ones, the others between them).
A subject's faces come from sittings of eight, one for each expression, that share light and pose;
neutral has intensity 0, the others 0.55 to 1. The same options draw the same faces, bit for bit."""
EXPECTED: Mapping[str, int] = {}

INTENSITY_RANGE = (0.55, 1.0)
COMMON_FIRST = tuple(
    Expression(name)
    for name in (
        "happiness", "neutral", "sadness", "anger", "surprise", "fear", "disgust", "contempt",
    )
)  # fmt: skip
"""How often faces of the web show each, as in AffectNet."""
_CHUNK_FACES = 8
_KEEP_BYTES = 24 << 20
_ATTRIBUTES = ("glasses", "bald", "long", "fringe", "beard", "moustache", "makeup", "occluder")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawing:
    """Drawn faces: uint8 RGB, 68 landmarks (iBUG order, x and y in pixels), and all numbers."""

    images_BHWC: np.ndarray
    landmarks_BL2: np.ndarray
    form: Columns


def scan(
    source: Path | None,
    *,
    subjects: int = 60,
    faces_per_subject: int = 40,
    seed: int = 0,
    size: int = 128,
    difficulty: float = 1.0,
    scenes: bool = False,
    imbalance: float = 1.0,
) -> Scan:
    """Plans the faces; pixels come from `images`. ValueError names an option out of its range.

    With `scenes` they are taken as delivered: nothing places them. With `imbalance` above 1 faces
    are left out at random, so that their numbers fall from class to class by the same factor, as in
    the long-tailed sets of Cui et al. (CVPR 2019, section 5.1).
    """
    if source is not None:
        raise ValueError(f"corpus 'drawn' takes no source, got '{source}'")
    _check(
        subjects=subjects,
        faces_per_subject=faces_per_subject,
        size=size,
        difficulty=difficulty,
        imbalance=imbalance,
    )
    subject_B, take_B, frame_B, expression_B = _planned(
        subjects, faces_per_subject, seed, imbalance
    )
    if not len(subject_B):
        return Scan(faces=(), aligned=scenes)
    low, high = INTENSITY_RANGE
    intensity_B = Chance(keys(seed, subject_B, take_B, frame_B)).uniform("intensity", low, high)
    intensity_B[expression_B == EXPRESSIONS.index(Expression.NEUTRAL)] = 0.0
    moment = moments(seed, subject_B, take_B, frame_B, difficulty)
    form = _form(people(seed, subject_B), moment, expression_B, intensity_B, {})
    points_BL2 = landmarks(form, size)
    if scenes:
        matrices = scene_matrices(keys(seed, subject_B, take_B), size)
        points_BL2 = np.stack([moved(*pair) for pair in zip(points_BL2, matrices, strict=True)])
    faces = []
    places = np.stack([subject_B, take_B, frame_B], axis=1).tolist()
    for index, (subject, take, frame) in enumerate(places):
        expression, intensity = EXPRESSIONS[expression_B[index]], float(intensity_B[index])
        drawing = {"seed": seed, "subject": subject, "take": take, "frame": frame}
        faces.append(
            SourceFace(
                name=f"drawn/s{subject:04d}/{take:04d}/{frame}",
                subject=f"s{subject:04d}",
                sitting=f"{take:04d}",
                expression=expression,
                intensity=intensity,
                landmarks_L3=np.pad(points_BL2[index], ((0, 0), (0, 1)), constant_values=1.0),
                attributes=_attributes(form, index),
                options={
                    **drawing,
                    "expression": expression.value,
                    "intensity": intensity,
                    "size": size,
                    "difficulty": difficulty,
                    **({"scenes": True} if scenes else {}),
                },
            )
        )
    return Scan(faces=tuple(faces), expected=EXPECTED, aligned=scenes)


def images(faces: Sequence[SourceFace]) -> np.ndarray:
    """The pixels of scanned faces, uint8 RGB [B, size, size, 3]; of one seed, size, difficulty."""
    if not faces:
        raise ValueError("no faces to draw")
    seed, size, difficulty, scenes = _shared_options(faces)
    pictures_BHWC = draw(
        subjects=[face.options["subject"] for face in faces],
        takes=[face.options["take"] for face in faces],
        frames=[face.options["frame"] for face in faces],
        expressions=[Expression(face.options["expression"]) for face in faces],
        intensities=[face.options["intensity"] for face in faces],
        seed=seed,
        size=size,
        difficulty=difficulty,
    ).images_BHWC
    if not scenes:
        return pictures_BHWC
    subject_B, take_B = (
        np.array([face.options[name] for face in faces]) for name in ("subject", "take")
    )
    matrices = scene_matrices(keys(seed, subject_B, take_B), size)
    pairs = zip(pictures_BHWC, matrices, strict=True)
    return np.stack([scene_picture(picture, matrix) for picture, matrix in pairs])


def draw(
    *,
    subjects: Sequence[int],
    expressions: Sequence[Expression],
    intensities: Sequence[float],
    takes: Sequence[int] | int = 0,
    frames: Sequence[int] | int = 0,
    seed: int = 0,
    size: int = 128,
    difficulty: float = 1.0,
    fixed: Mapping[str, float] | None = None,
) -> Drawing:
    """Draws subjects with an expression at an intensity: the ground truth of editing and intensity.

    A take is one sitting: pose, light, mouth more or less open; its frames differ by small
    movements and noise. The same subject, take and frame with other intensities differ in the
    expression alone. `fixed` sets numbers of the sitting or the subject for all faces
    (`{"yaw": 0.0, "glasses": 1.0}`; radians, half eye distances, shares).
    """
    expression_B = np.array([EXPRESSIONS.index(expression) for expression in expressions])
    subject_B, take_B, frame_B = np.broadcast_arrays(
        np.asarray(subjects), np.asarray(takes), np.asarray(frames)
    )
    intensity_B = np.asarray(intensities, np.float32)
    moment = moments(seed, subject_B, take_B, frame_B, difficulty)
    form = _form(people(seed, subject_B), moment, expression_B, intensity_B, fixed or {})
    pictures = np.empty((len(subject_B), size, size, 3), np.uint8)
    # Freed at once and never touched: from then on glibc reuses blocks up to this size instead of
    # returning them to the system, which otherwise costs a third of the time in page faults.
    np.empty(_KEEP_BYTES, np.uint8)
    for start in range(0, len(subject_B), _CHUNK_FACES):
        part = {name: value[start : start + _CHUNK_FACES] for name, value in form.items()}
        pictures[start : start + _CHUNK_FACES] = _develop(paint(part, size), part)
    return Drawing(images_BHWC=pictures, landmarks_BL2=landmarks(form, size), form=form)


def _form(
    person: Columns,
    moment: Columns,
    expression_B: np.ndarray,
    intensity_B: np.ndarray,
    fixed: Mapping[str, float],
) -> Columns:
    for name, value in fixed.items():
        home = person if name in person else moment
        if name not in home or home[name].ndim != 1 or name == "key":
            valid = ", ".join(sorted(set(person) | set(moment) - {"key"}))
            raise ValueError(f"fixed: no number '{name}' in a drawn face; valid: {valid}")
        home[name] = np.full(len(expression_B), value, np.float32)
    return shape(person, moment, muscles(expression_B, intensity_B, moment))


def _develop(picture_BCHW: np.ndarray, form: Columns) -> np.ndarray:
    """Adds grain, multiplies by 255 and puts colours last: uint8 [B, H, W, 3]."""
    picture_BCHW += _grain(form, picture_BCHW.shape[2])[:, None]
    picture_BCHW *= np.float32(255.0)
    np.clip(picture_BCHW, 0.0, 255.0, out=picture_BCHW)
    return picture_BCHW.astype(np.uint8).transpose(0, 2, 3, 1)


def _grain(form: Columns, size: int) -> np.ndarray:
    """Noise hashed from each face's key, two pixels coarse, so that shrinking keeps it."""
    half = size // 2 + 1
    bits = (np.arange(half * half, dtype=np.uint32) * np.uint32(0x9E3779B1))[None]
    bits = bits ^ (form["key"][:, None] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        bits ^= bits >> np.uint32(shift)
        bits *= np.uint32(factor)
    bits ^= bits >> np.uint32(15)
    level = (bits & np.uint32(0xFFFF)).astype(np.float32)
    level += (bits >> np.uint32(16)).astype(np.float32)
    level -= np.float32(65535.0)
    level *= form["noise"][:, None] * np.float32(2.45 / 65535.0)
    coarse = level.reshape(-1, half, half)
    grain = np.empty((len(coarse), half, half, 2, 2), np.float32)
    right, below = np.roll(coarse, -1, axis=2), np.roll(coarse, -1, axis=1)
    grain[..., 0, 0] = coarse
    grain[..., 0, 1] = (coarse + right) * np.float32(0.5)
    grain[..., 1, 0] = (coarse + below) * np.float32(0.5)
    grain[..., 1, 1] = (right + below) * np.float32(0.5)
    fine = grain.transpose(0, 1, 3, 2, 4).reshape(len(coarse), 2 * half, 2 * half)
    return fine[:, :size, :size]


def _attributes(form: Columns, index: int) -> dict[str, float]:
    degrees = {name: float(np.degrees(form[name][index])) for name in ("yaw", "pitch", "roll")}
    return degrees | {name: float(form[name][index]) for name in _ATTRIBUTES}


def _planned(
    subjects: int, faces_per_subject: int, seed: int, imbalance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every face its subject, take, frame and expression, int64 [B]."""
    subject_B = np.repeat(np.arange(subjects), faces_per_subject)
    take_B, frame_B = np.divmod(np.tile(np.arange(faces_per_subject), subjects), len(EXPRESSIONS))
    expression_B = (frame_B + subject_B) % len(EXPRESSIONS)
    chance_B = Chance(keys(seed, subject_B, take_B, frame_B)).uniform("imbalance")
    kept_B = chance_B < _shares(imbalance)[expression_B]
    return subject_B[kept_B], take_B[kept_B], frame_B[kept_B], expression_B[kept_B]


def _shares(imbalance: float) -> np.ndarray:
    """Of every class, in the order of EXPRESSIONS: which share of its faces stays, from 0 to 1."""
    ranks = np.array([COMMON_FIRST.index(expression) for expression in EXPRESSIONS])
    return imbalance ** (-ranks / (len(EXPRESSIONS) - 1))


def _shared_options(faces: Sequence[SourceFace]) -> tuple[int, int, float, bool]:
    names = ("seed", "size", "difficulty", "scenes")
    found = {tuple(face.options.get(name, False) for name in names) for face in faces}
    if len(found) > 1:
        raise ValueError(f"drawn faces of one call must share {', '.join(names)}; got {found}")
    return found.pop()


def _check(
    *, subjects: int, faces_per_subject: int, size: int, difficulty: float, imbalance: float
) -> None:
    for name, value, low, high in (
        ("subjects", subjects, 1, 9999),
        ("faces_per_subject", faces_per_subject, 1, 9999),
        ("size", size, 32, 1024),
        ("difficulty", difficulty, 0.0, 2.0),
        ("imbalance", imbalance, 1.0, 100.0),
    ):
        if not low <= value <= high:
            raise ValueError(f"corpus 'drawn': {name} must be from {low} to {high}, got {value}")

"""AffectNet (Mollahosseini et al., IEEE Transactions on Affective Computing 10(1), 2019)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_service.corpora._arrays import small_numbers
from data_service.corpora._files import (
    FILE_MISSING,
    NO_PICTURE,
    RefusedFileError,
    existing_folder,
    file_named,
    folders_named,
    path_below,
    pictures,
    strays,
    unlisted,
    unwrapped,
    visible,
    why_no_file,
)
from data_service.corpora._parts import outside_parts
from data_service.corpora._points import landmarks
from data_service.corpora._tables import plain_rows
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "affectnet"
DESCRIPTION = "AffectNet: faces from the web with expression, valence and arousal, 8 expressions"
LAYOUT = """\
SOURCE/               the first delivery, unpacked, at most a few folders deep
  .../training.csv validation.csv            of Manually_Annotated_file_lists, or
  .../automatically_annotated.csv            of Automatically_Annotated_file_lists
    subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,
    arousal                                  (the header may be missing)
  .../Manually_Annotated_Images/689/737d....jpg    or Automatically_Annotated_Images/...
or the second
  .../train_set|val_set/images/0.jpg  annotations/0_exp.npy 0_val.npy 0_aro.npy 0_lnd.npy
split: train; validation is test, because no test part is published. There are no subjects.
options: annotated=manual or automatic (first delivery)"""
CODES: Mapping[int, Expression] = {
    0: Expression.NEUTRAL,
    1: Expression.HAPPINESS,
    2: Expression.SADNESS,
    3: Expression.SURPRISE,
    4: Expression.FEAR,
    5: Expression.DISGUST,
    6: Expression.ANGER,
    7: Expression.CONTEMPT,
}
WITHOUT = {8: "no expression", 9: "expression uncertain", 10: "no face"}
"""Codes of pictures that are not used, and the reasons that they are refused with."""
EXPECTED: Mapping[str, int] = {"faces": 291_651, "split/train": 287_651, "split/test": 4_000}
EXPECTED_SECOND: Mapping[str, int] = {
    "faces": 291_650,
    "split/train": 287_651,
    "split/test": 3_999,
}
COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
NUM_LANDMARKS = 68
MISSING = -2.0
"""Valence and arousal where nobody gave any."""
TABLES: Mapping[str, Mapping[str, str]] = {
    "manual": {"training.csv": "train", "validation.csv": "test"},
    "automatic": {"automatically_annotated.csv": "train"},
}
IMAGES: Mapping[str, str] = {
    "manual": "Manually_Annotated_Images",
    "automatic": "Automatically_Annotated_Images",
}
NUMBERS = ("*.csv", "*_exp.npy", "*_val.npy", "*_aro.npy", "*_lnd.npy")
LEFT_ALONE = (*NUMBERS, f"*{IMAGES['automatic']}/*")
SETS: Mapping[str, str] = {"train_set": "train", "val_set": "test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotated:
    """What is told of one picture, as it stands in the corpus."""

    name: str
    path: Path | None
    split: str
    code: str
    valence: str
    arousal: str
    points: Any
    where: str = ""


def scan(source: Path | None, *, annotated: Literal["manual", "automatic"] = "manual") -> Scan:
    """The faces of either delivery; pictures without one of the eight expressions are rejected.

    ValueError for a folder that has neither delivery, for a table with other columns, and without
    the table of the automatic labels where these are wanted.
    """
    source = existing_folder(source, NAME, "a folder with training.csv or train_set/annotations/")
    expected = EXPECTED if annotated == "manual" else {}
    faces: dict[str, SourceFace] = {}
    rejected: list[Rejection] = []
    tables = _tables(source, annotated)
    images = _images(source, annotated) if tables else None
    if images is None:
        told, expected = _second(source, rejected), EXPECTED_SECOND
    else:
        told = (
            one for table, split in tables.items() for one in _rows(source, table, images, split)
        )
    for one in told:
        reason = _why_not(one) or ("listed twice" if one.name in faces else None)
        if reason is None:
            faces[one.name] = _face(one)
        else:
            rejected.append(Rejection(name=one.name, reason=reason, detail=one.where))
    if images is not None:
        listed = {*faces, *(one.name for one in rejected)}
        rejected += unlisted(images, listed, min(tables))
        rejected += outside_parts(source, [images], _left_alone(annotated))
    return Scan(faces=tuple(faces.values()), rejected=tuple(rejected), expected=expected)


def _tables(source: Path, annotated: str) -> dict[Path, str]:
    """The tables of the first delivery that the source has, with the part that each tells.

    ValueError without any for automatic labels, which only that delivery has.
    """
    found = {file_named(source, name): split for name, split in TABLES[annotated].items()}
    tables = {table: split for table, split in found.items() if table is not None}
    if not tables and annotated == "automatic":
        names = " or ".join(TABLES[annotated])
        raise ValueError(f"no {names} in {source}; {NAME} needs it (annotated={annotated})")
    return tables


def _images(source: Path, annotated: str) -> Path:
    images = next(iter(folders_named(source, IMAGES[annotated])), None)
    if images is None:
        raise ValueError(f"no folder {IMAGES[annotated]} in {source}; {NAME} needs its pictures")
    return unwrapped(images)


def _rows(source: Path, table: Path, images: Path, split: str) -> Iterator[Annotated]:
    for line, cells in plain_rows(source, table):
        if line == 1 and _is_header(table, cells):
            continue
        if len(cells) != len(COLUMNS):
            raise ValueError(
                f"{table}, line {line}: {len(cells)} columns; valid: {','.join(COLUMNS)}"
            )
        name, path = path_below(images, cells[0])
        yield Annotated(
            name=name,
            path=path,
            split=split,
            code=cells[6],
            valence=cells[7],
            arousal=cells[8],
            points=cells[5].split(";"),
            where=f"{table.name}, line {line}",
        )


def _is_header(table: Path, cells: Sequence[str]) -> bool:
    """Whether the first row names the columns. ValueError where it names others."""
    names = [cell.lower() for cell in cells]
    if names == [column.lower() for column in COLUMNS]:
        return True
    if "expression" in names:
        found = ",".join(cells)[:120]
        raise ValueError(f"{table}, line 1: header '{found}'; valid: {','.join(COLUMNS)}")
    return False


def _second(source: Path, refused: list[Rejection]) -> Iterator[Annotated]:
    """The pictures of the second delivery, each with its small files of numbers.

    Of these go to `refused` the ones that a face does without.
    """
    folders = {name: next(iter(folders_named(source, name)), None) for name in SETS}
    if not any(folders.values()):
        raise ValueError(
            f"neither training.csv nor train_set/annotations in {source}; see `mien corpora`"
        )
    parts: list[Path] = []
    for name, folder in folders.items():
        if folder is not None:
            images, annotations = folder / "images", folder / "annotations"
            parts.append(images)
            refused += strays(source, images)
            taken: dict[str, Path] = {}
            for path in pictures(images):
                if taken.setdefault(path.stem, path) == path:
                    yield _with_arrays(source, path, annotations, SETS[name], refused)
                else:
                    refused.append(_twice(path))
            refused += _without_picture(source, annotations, taken)
    refused += outside_parts(source, parts, _left_alone())


def _left_alone(taken: str | None = None) -> list[str]:
    """Patterns of what is not told: small files of numbers, and the pictures of other options."""
    return [*NUMBERS, *(f"*{folder}/*" for name, folder in IMAGES.items() if name != taken)]


def _twice(path: Path) -> Rejection:
    """A second picture to one annotation."""
    return Rejection(name=_name(path), reason="listed twice", detail=path.stem)


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _without_picture(
    source: Path, annotations: Path, stems: Collection[str]
) -> Iterator[Rejection]:
    """The labels whose pictures this copy lacks."""
    for path in visible(annotations) if annotations.is_dir() else ():
        if path.name.endswith("_exp.npy") and path.name.removesuffix("_exp.npy") not in stems:
            name = path.relative_to(source).as_posix()
            yield Rejection(name=name, reason=NO_PICTURE)


def _with_arrays(
    source: Path, path: Path, annotations: Path, split: str, refused: list[Rejection]
) -> Annotated:
    texts, where = dict.fromkeys(("exp", "val", "aro", "lnd")), ""
    for kind in texts:
        file = annotations / f"{path.stem}_{kind}.npy"
        try:
            texts[kind] = small_numbers(source, file)
            continue
        except RefusedFileError as error:
            reason, detail = error.reason, error.detail
        except ValueError as error:
            reason, detail = "damaged array", str(error)
        if kind == "exp":
            where = f"{file.name}: {reason}" + (f", {detail}" if detail else "")
        elif reason != FILE_MISSING:
            name = file.relative_to(source).as_posix()
            refused.append(Rejection(name=name, reason=reason, detail=detail))
    return Annotated(
        name=_name(path),
        path=path,
        split=split,
        code=_one(texts["exp"]),
        valence=_one(texts["val"]),
        arousal=_one(texts["aro"]),
        points=() if texts["lnd"] is None else texts["lnd"],
        where=where,
    )


def _one(numbers: Any) -> str:
    return "" if numbers is None or numbers.size != 1 else str(numbers.item())


def _why_not(one: Annotated) -> str | None:
    """Why a picture is no face of the corpus; None where it is one."""
    if one.path is None:
        return "path outside the source"
    code = _number(one.code)
    if code is None or code not in {*CODES, *WITHOUT}:
        return "unknown expression code"
    return WITHOUT.get(int(code)) or why_no_file(one.path)


def _face(one: Annotated) -> SourceFace:
    feelings = {"valence": _number(one.valence), "arousal": _number(one.arousal)}
    return SourceFace(
        name=one.name,
        subject=None,
        expression=CODES[int(float(one.code))],
        path=one.path,
        split=one.split,
        landmarks_L3=landmarks(one.points, NUM_LANDMARKS),
        attributes={
            name: value
            for name, value in feelings.items()
            if value is not None and value != MISSING
        },
    )


def _number(text: str) -> float | None:
    with suppress(ValueError):
        number = float(text)
        return number if abs(number) < 1e9 else None
    return None

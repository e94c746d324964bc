"""FER+: ten people's votes on the pictures of FER2013 (Barsoum et al., ICMI 2016)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from data_service.corpora import fer2013
from data_service.corpora._files import (
    existing_folder,
    file_named,
    visible,
    why_no_file,
)
from data_service.corpora._parts import outside_parts
from data_service.corpora._tables import plain_rows, table_rows
from data_service.schema import Expression, Rejection, Scan, SourceFace

NAME = "ferplus"
DESCRIPTION = "FER+: FER2013 with ten votes for each face, 8 expressions, majority or soft labels"
LAYOUT = """\
SOURCE/
  fer2013new.csv          Usage,Image name,neutral,happiness, ... ,unknown,NF    (github.com/
                          microsoft/FERPlus), with either
  fer2013.csv             the pictures, row by row the same, or
  FER2013Train|FER2013Valid|FER2013Test/fer0000000.png    its generator's pictures
or these folders with label.csv in each: fer0000000.png,"(0, 0, 48, 48)",ten votes
split: Training, PublicTest (validation), PrivateTest (test). No subjects.
options: labels=majority (as published: more than half of the votes; about 25,060 / 3,199 / 3,153,
which was not checked against a copy) or soft (all faces whose votes are mostly for expressions;
data.labels=votes trains on the votes).
Single votes are taken for slips and dropped, as published."""
EXPECTED: Mapping[str, int] = {
    "faces": 31_412,
    "split/train": 25_060,
    "split/validation": 3_199,
    "split/test": 3_153,
}
"""Of the majority; not verified: as often told, to be checked against the first complete copy."""
LEFT_ALONE = ("*.csv", "*.md", "*.py")
"""The last two are of the clone."""
VOTED = (
    Expression.NEUTRAL,
    Expression.HAPPINESS,
    Expression.SURPRISE,
    Expression.SADNESS,
    Expression.ANGER,
    Expression.DISGUST,
    Expression.FEAR,
    Expression.CONTEMPT,
)
COLUMNS = (*(str(one) for one in VOTED), "unknown", "NF")
FOLDERS: Mapping[str, str] = {
    "Training": "FER2013Train",
    "PublicTest": "FER2013Valid",
    "PrivateTest": "FER2013Test",
}
TABLE = "fer2013new.csv"
LABELS = "label.csv"
AGREEING_SHARE = 0.4
"""FER2013 and FER+ agree on about two faces in three; of confused rows on one in five."""
ENOUGH_ROWS = 50
read_pictures = fer2013.read_pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Voted:
    """One picture and the votes on it, in the order of COLUMNS."""

    name: str
    path: Path
    split: str
    votes: tuple[float, ...]
    options: Mapping[str, int] = field(default_factory=dict)


def scan(source: Path | None, *, labels: Literal["majority", "soft"] = "majority") -> Scan:
    """The faces with votes; those without a face, without the agreement asked for, or listed before
    are rejected.

    ValueError for a folder that lacks votes or pictures, and for tables that do not fit together.
    """
    source = existing_folder(source, NAME, f"a folder with {TABLE} and fer2013.csv")
    faces: dict[str, SourceFace] = {}
    rejected: list[Rejection] = []
    files: dict[Path, set[str]] = {}
    for one in _voted(source):
        if isinstance(one, Rejection):
            rejected.append(one)
            continue
        files.setdefault(one.path.parent, set()).add(one.path.name)
        votes = without_slips(one.votes)
        label = decide(votes, labels)
        twice = "listed twice" if one.name in faces else None
        reason = (twice or why_no_file(one.path)) if isinstance(label, Expression) else label
        if reason is not None or not isinstance(label, Expression):
            rejected.append(Rejection(name=one.name, reason=str(reason)))
            continue
        faces[one.name] = SourceFace(
            name=one.name,
            subject=None,
            expression=label,
            path=one.path,
            split=one.split,
            votes={str(name): count for name, count in zip(VOTED, votes) if count},
            options=one.options,
        )
    for folder, listed in files.items():
        if folder.name in FOLDERS.values():
            rejected += (
                Rejection(name=f"{folder.name}/{path.name}", reason="not listed")
                for path in visible(folder)
                if path.name not in listed and path.name != LABELS
            )
    rejected += _others(source, files)
    expected = EXPECTED if labels == "majority" else {}
    found = tuple(faces.values())
    return Scan(faces=found, rejected=tuple(rejected), expected=expected, aligned=True)


def _others(source: Path, files: Mapping[Path, Collection[str]]) -> Iterator[Rejection]:
    """What lies outside of the listed folders or the table of pixels: parts without a list too."""
    names = set(FOLDERS.values())
    parts = {
        folder if folder.name in names else folder / file
        for folder, listed in files.items()
        for file in listed
    }
    for one in outside_parts(source, parts, LEFT_ALONE):
        folder = (source / one.name).parent
        if folder.name in names:
            reason = "not listed" if (folder / LABELS).exists() else "no label list"
            yield replace(one, reason=reason, detail=LABELS)
        else:
            yield one


def without_slips(votes: Sequence[float]) -> tuple[float, ...]:
    """The votes without those that only one person gave."""
    return tuple(count if count > 1 else 0.0 for count in votes)


def decide(votes: Sequence[float], labels: str) -> Expression | str:
    """The expression that the votes (by COLUMNS) agree on, or why they do not.

    Majority: it has more than half of them all. Soft: all expressions together have more than half;
    the label is the one with most votes, the first in the order of COLUMNS where two have as many.
    """
    total, most = sum(votes), max(votes[: len(VOTED)])
    enough = most if labels == "majority" else sum(votes[: len(VOTED)])
    if max(votes[len(VOTED) :]) > total / 2:
        return "voted unknown or no face"
    if enough <= total / 2:
        return "votes disagree"
    return VOTED[votes.index(most)]


def _voted(source: Path) -> Iterator[Voted | Rejection]:
    lists = [file_named(source, f"{folder}/{LABELS}") for folder in FOLDERS.values()]
    table, pixels = file_named(source, TABLE), file_named(source, *fer2013.TABLES)
    if any(lists):
        for path, usage in zip(lists, FOLDERS, strict=True):
            if path is not None:
                yield from _of_generator(source, path, fer2013.SPLITS[usage])
    elif table is not None and pixels is not None:
        yield from _of_tables(source, table, pixels)
    elif table is not None and (found := file_named(source, *_first_pictures(source, table))):
        yield from _of_pictures(source, table, found.parent.parent)
    else:
        raise ValueError(
            f"no {TABLE} with fer2013.csv or FER2013Train/*.png, nor FER2013Train/{LABELS} in "
            f"{source}; see `mien corpora`"
        )


def _of_generator(source: Path, table: Path, split: str) -> Iterator[Voted]:
    """The pictures of one folder, as the published generator lists them, without a header."""
    for line, cells in plain_rows(source, table):
        votes = _numbers(cells[2:], f"{table}, line {line}")
        path = table.parent / Path(cells[0]).name
        yield Voted(name=f"{table.parent.name}/{path.name}", path=path, split=split, votes=votes)


def _of_tables(source: Path, table: Path, pixels: Path) -> Iterator[Voted | Rejection]:
    """Votes and pixels row by row. ValueError where the two are not of the same pictures."""
    votes, pictures = list(_rows(source, table)), list(fer2013.rows(source, pixels))
    if len(votes) != len(pictures):
        raise ValueError(f"{table} has {len(votes)} rows, {pixels} has {len(pictures)}")
    agreeing = compared = 0
    for number, ((line, row, counts), picture) in enumerate(zip(votes, pictures, strict=True)):
        if fer2013.SPLITS[row["Usage"]] != picture.split:
            raise ValueError(
                f"{table}, line {line}: not the Usage of {pixels}, line {picture.line}"
            )
        label = decide(counts, "majority")
        if isinstance(label, Expression):
            compared += 1
            agreeing += label == picture.expression
        name = f"{pixels.stem}/{number:05d}"
        if row["Image name"]:
            split, options = picture.split, picture.options
            yield Voted(name=name, path=pixels, split=split, votes=counts, options=options)
        else:
            yield Rejection(name=name, reason="no face", detail=f"line {line}")
    if compared >= ENOUGH_ROWS and agreeing < AGREEING_SHARE * compared:
        raise ValueError(
            f"{table} and {pixels} name the same expression in {agreeing} of {compared} rows; "
            "their rows must be in one order"
        )


def _of_pictures(source: Path, table: Path, root: Path) -> Iterator[Voted | Rejection]:
    """The generator's pictures by the names in the table of votes."""
    for line, row, counts in _rows(source, table):
        folder, file = FOLDERS[row["Usage"]], Path(row["Image name"]).name
        if file:
            split = fer2013.SPLITS[row["Usage"]]
            name = f"{folder}/{file}"
            yield Voted(name=name, path=root / folder / file, split=split, votes=counts)
        else:
            yield Rejection(name=f"{folder}/line {line}", reason="no face")


def _first_pictures(source: Path, table: Path) -> list[str]:
    """Where the first picture of each part must lie, below the folder of all parts."""
    found: dict[str, str] = {}
    for _, row, _ in _rows(source, table):
        if row["Image name"]:
            found.setdefault(
                row["Usage"], f"{FOLDERS[row['Usage']]}/{Path(row['Image name']).name}"
            )
    return list(found.values())


def _rows(source: Path, table: Path) -> Iterator[tuple[int, dict[str, str], tuple[float, ...]]]:
    """Line, cells and votes of each row of the table of votes."""
    for line, row in table_rows(source, table, ("Usage", "Image name", *COLUMNS)):
        if row["Usage"] not in FOLDERS:
            raise ValueError(
                f"{table}, line {line}: unknown Usage '{row['Usage'][:40]}'; "
                f"valid: {', '.join(FOLDERS)}"
            )
        yield line, row, _numbers([row[column] for column in COLUMNS], f"{table}, line {line}")


def _numbers(cells: Sequence[str], where: str) -> tuple[float, ...]:
    if len(cells) != len(COLUMNS) or not all(cell.strip().isdecimal() for cell in cells):
        raise ValueError(f"{where}: votes {','.join(cells)[:60]}; valid: {len(COLUMNS)} numbers")
    return tuple(float(cell) for cell in cells)

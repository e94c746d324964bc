"""What an audit found, as it lies beside the lake.

Shapes: N faces.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_service.lakes.manifest import write_atomically

AUDIT = "audit.json"
METHOD = 1
"""Rises with every change of the method: what another one found is found anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two rows of a lake that show the same; `likeness` is 1 where all pixels are equal."""

    first: int
    second: int
    likeness: float
    mirrored: bool = False

    @property
    def exact(self) -> bool:
        """Whether all pixels are equal."""
        return self.likeness == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Giveaway:
    """How well `cue` (colour or size) alone tells faces of a class from all others.

    `area` is that under the ROC curve on subjects not fitted on: 0.5 is chance, 1 is certainty.
    """

    cue: str
    expression: str
    area: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The findings in the lake of that hash: copies by row, and classes that are given away."""

    lake_hash: str
    faces: int
    pairs: tuple[Pair, ...]
    giveaways: tuple[Giveaway, ...]
    method: int = METHOD

    @classmethod
    def read(cls, folder: Path, lake_hash: str, faces: int) -> Audit | None:
        """The audit in a lake's folder; None where there is none of that lake by this method."""
        try:
            values = json.loads((folder / AUDIT).read_text())
            if (values["lake_hash"], values["method"]) != (lake_hash, METHOD):
                return None
            pairs = tuple(Pair(**pair) for pair in values.pop("pairs"))
            giveaways = tuple(Giveaway(**one) for one in values.pop("giveaways"))
            audit = cls(**values, pairs=pairs, giveaways=giveaways)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        rows = chain.from_iterable((pair.first, pair.second) for pair in audit.pairs)
        return audit if all(_in_lake(row, faces) for row in rows) else None

    def write(self, folder: Path) -> None:
        """Puts the audit into the lake's folder."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        write_atomically(folder / AUDIT, text.encode())

    def groups(self) -> list[list[int]]:
        """Rows that show the same, directly or by way of others; sorted, each row at most once."""
        leader = {row: row for pair in self.pairs for row in (pair.first, pair.second)}

        def leader_of(row: int) -> int:
            while leader[row] != row:
                leader[row] = row = leader[leader[row]]
            return row

        for pair in self.pairs:
            ends = sorted((leader_of(pair.first), leader_of(pair.second)))
            leader[ends[1]] = ends[0]
        members = defaultdict(list)
        for row in sorted(leader):
            members[leader_of(row)].append(row)
        return [members[first] for first in sorted(members)]

    def conflicts(self, column: pa.ChunkedArray) -> list[list[int]]:
        """Groups of copies that have more than one value (null aside) in a column of the lake."""
        values = column.to_pylist()
        return [rows for rows in self.groups() if len({values[row] for row in rows} - {None}) > 1]


def _in_lake(row: int, faces: int) -> bool:
    return isinstance(row, int) and 0 <= row < faces


def one_class_subjects(table: pa.Table) -> dict[str, str]:
    """The expression of each known subject that has at least two faces, all with that one."""
    seen: defaultdict[str, list[str | None]] = defaultdict(list)
    pairs = zip(table["subject"].to_pylist(), table["expression"].to_pylist(), strict=True)
    for subject, expression in pairs:
        if subject is not None and expression is not None:
            seen[subject].append(expression)
    return {
        subject: str(faces[0])
        for subject, faces in sorted(seen.items())
        if len(faces) > 1 and len(set(faces)) == 1
    }


PARTS = ("training", "validation", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaks:
    """What stands in more than one part of a split: groups of copies (rows), and subjects."""

    copies: tuple[tuple[int, ...], ...]
    subjects: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.copies or self.subjects)

    def __str__(self) -> str:
        told = [
            f"{len(found)} {what}{'' if len(found) == 1 else 's'}"
            for found, what in (
                (self.copies, "group of copies"),
                (self.subjects, "subject"),
            )
            if found
        ]
        return " and ".join(told).replace("group of copiess", "groups of copies") or "none"


def leaks(audit: Audit, table: pa.Table, parts: Sequence[np.ndarray]) -> Leaks:
    """What stands in more than one of the parts (rows of training, validation, test)."""
    part_N = np.full(table.num_rows, -1)
    for part, rows in enumerate(parts):
        part_N[rows] = part
    torn = [rows for rows in audit.groups() if len(set(part_N[rows].tolist()) - {-1}) > 1]
    where: defaultdict[str, set[int]] = defaultdict(set)
    for subject, part in zip(table["subject"].to_pylist(), part_N.tolist(), strict=True):
        if subject is not None and part >= 0:
            where[subject].add(part)
    subjects = sorted(subject for subject, found in where.items() if len(found) > 1)
    return Leaks(copies=tuple(map(tuple, torn)), subjects=tuple(subjects))

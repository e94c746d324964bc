"""Who is trained on, who chooses, who is tested: by subject, pure and seeded.

A fold depends on the names of subjects and on labels, not on the order of rows. A face whose corpus
does not tell its subject stays with the other frames of its clip; without a clip it is a subject of
its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from data_service import corpora, seeds
from data_service.lakes.manifest import blake
from data_service.schema import Expression

OFFICIAL = "official"
ALL = "all"
VALIDATION_PARTS = 8
"""One part in eight of the subjects that a fold does not test serves for validation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """One division of a lake's rows (sorted int64); `index` counts from 1, as in `--fold 3/10`."""

    index: int
    num_folds: int
    train_rows: np.ndarray
    validation_rows: np.ndarray
    test_rows: np.ndarray

    @cached_property
    def hash(self) -> str:
        """Names the division, for the record of a run."""
        digest = blake()
        for rows in (self.train_rows, self.validation_rows, self.test_rows):
            digest.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
        return digest.hexdigest()


def parse_fold(text: str) -> tuple[int, int]:
    """Index (from 1) and number of folds of a text like `3/10`; ValueError says what is valid."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match:
        raise ValueError(f"fold '{text}' is not of the form K/N, as in 3/10, nor official")
    index, num_folds = int(match[1]), int(match[2])
    if num_folds < 2:
        raise ValueError(f"fold '{text}': at least 2 folds are needed")
    if not 1 <= index <= num_folds:
        raise ValueError(
            f"fold '{text}': with {num_folds} folds, 1/{num_folds} to "
            f"{num_folds}/{num_folds} are valid"
        )
    return index, num_folds


def named_split(table: pa.Table, fold: str, classes: Sequence[Expression] | None) -> Fold:
    """The division of that name: `K/N`, or `official`, the one that the corpus delivers.

    `K/N:k/n` is the nested fold k of n of the subjects that fold K of N does not test,
    `official:k/n` of those that the corpus does not, and `all:k/n` of all, which tests nobody.
    """
    outer, nested, inner = fold.partition(":")
    if nested:
        around = _all(table, classes) if outer == ALL else named_split(table, outer, classes)
        return nested_fold(table, around, parse_fold(inner), classes)
    if fold == OFFICIAL:
        return official_split(table, classes=classes)
    index, num_folds = parse_fold(fold)
    return make_folds(table, num_folds, classes=classes)[index - 1]


def _all(table: pa.Table, classes: Sequence[Expression] | None) -> Fold:
    rows = np.arange(table.num_rows)
    rows = rows if classes is None else rows[class_codes(table, classes) >= 0]
    none = rows[:0]
    return Fold(index=1, num_folds=1, train_rows=rows, validation_rows=none, test_rows=none)


def class_codes(table: pa.Table, classes: Sequence[Expression]) -> np.ndarray:
    """The index of each row's expression in `classes`; -1 where it is none of them. Int64."""
    code = {str(expression): index for index, expression in enumerate(classes)}
    values = table["expression"].to_pylist()
    return np.fromiter((code.get(value, -1) for value in values), np.int64, len(values))


def subject_keys(table: pa.Table) -> np.ndarray:
    """A text for each row, equal for rows of one subject, or of one clip where that is all that is
    known; rows with neither are alone."""
    subjects, rows = (table[name].to_pylist() for name in ("subject", "sample_id"))
    has_clips = "sequence" in table.column_names
    clips = table["sequence"].to_pylist() if has_clips else [None] * len(rows)
    return np.array([_key(*told) for told in zip(subjects, clips, rows, strict=True)])


def _key(subject: str | None, clip: str | None, row: str) -> str:
    if subject is not None:
        return subject
    return f"/{row}" if clip is None else f"/clip/{clip}"


def make_folds(
    table: pa.Table,
    num_folds: int,
    seed: int = 0,
    classes: Sequence[Expression] | None = None,
) -> tuple[Fold, ...]:
    """Divides the subjects of a lake's table into folds, each tested in exactly one.

    Every fold's test faces have about the same number of each class, unless the literature on the
    corpus divides its subjects in order of their names (`FOLDS` of its module): interval, every
    N-th subject, or blocks of subjects that follow each other. Of the other subjects about one in
    eight validates, chosen so that each class has about its share. With `classes` only rows of
    these are used, without all, unlabelled ones too. ValueError where there are too few subjects.
    """
    if num_folds < 2:
        raise ValueError(f"{num_folds} folds: at least 2 are needed")
    rows, groups = _groups(table, seed, classes)
    if len(groups.counts) < num_folds + 1:
        raise ValueError(
            f"{num_folds} folds need at least {num_folds + 1} subjects; the chosen rows have "
            f"{len(groups.counts)}"
        )
    part_of_group = _in_order(groups, num_folds, _rule(table))
    if part_of_group is None:
        part_of_group = _deal(groups.counts, num_folds)
    folds = []
    for part in range(num_folds):
        tested = part_of_group == part
        validates = _hold_out(groups.counts, ~tested)
        folds.append(_fold(part + 1, num_folds, rows, groups.of_row, tested, validates))
    return tuple(folds)


def nested_fold(
    table: pa.Table,
    around: Fold,
    inner: tuple[int, int],
    classes: Sequence[Expression] | None = None,
) -> Fold:
    """Fold `inner` (index from 1, number) of the subjects that fold `around` does not test.

    Each of these subjects validates in exactly one inner fold; the test rows are the outer fold's,
    in all of them. ValueError where there are too few subjects.
    """
    rows = np.sort(np.concatenate([around.train_rows, around.validation_rows]))
    within = make_folds(table.take(rows), inner[1], classes=classes)[inner[0] - 1]
    trained = np.sort(np.concatenate([within.train_rows, within.validation_rows]))
    return Fold(
        index=inner[0],
        num_folds=inner[1],
        train_rows=rows[trained],
        validation_rows=rows[within.test_rows],
        test_rows=around.test_rows,
    )


def official_split(
    table: pa.Table, seed: int = 0, classes: Sequence[Expression] | None = None
) -> Fold:
    """The corpus' own division, from the column `split` (train, validation, test), as fold 1/1.

    Where the corpus names no validation part, one in eight of its training subjects are held out.
    A subject that it puts into several parts stands there: `audit` tells of it. ValueError where it
    names no training or test part.
    """
    rows, groups = _groups(table, seed, classes)
    split = np.array([value or "" for value in table["split"].to_pylist()])[rows]
    for needed in ("train", "test"):
        if needed not in split:
            raise ValueError(f"the lake has no official split: no row is marked '{needed}'")
    train, validation = split == "train", split == "validation"
    if not validation.any():
        trained = np.bincount(groups.of_row[train], minlength=len(groups.counts)) > 0
        validation = train & _hold_out(groups.counts, trained)[groups.of_row]
    return Fold(
        index=1,
        num_folds=1,
        train_rows=rows[train & ~validation],
        validation_rows=rows[validation],
        test_rows=rows[split == "test"],
    )


def _rule(table: pa.Table) -> str | None:
    """How the literature on the table's corpus divides its subjects; None without such a rule."""
    names = table["corpus"].unique().to_pylist() if "corpus" in table.column_names else []
    if len(names) != 1 or names[0] not in corpora.names():
        return None
    return getattr(corpora.load(names[0]), "FOLDS", None)


def _in_order(groups: _Groups, num_folds: int, rule: str | None) -> np.ndarray | None:
    """The part of each group by the place of its name among all names; None without a rule."""
    if rule == "interval":
        return groups.place % num_folds
    if rule == "blocks":
        return groups.place * num_folds // len(groups.place)
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Groups:
    """Subjects in a seeded order: `counts` per subject and class, the subject of each row, and the
    `place` of each subject in order of name."""

    counts: np.ndarray
    of_row: np.ndarray
    place: np.ndarray


def _groups(
    table: pa.Table, seed: int, classes: Sequence[Expression] | None
) -> tuple[np.ndarray, _Groups]:
    codes = class_codes(table, tuple(Expression) if classes is None else classes)
    rows = np.arange(len(codes)) if classes is None else np.flatnonzero(codes >= 0)
    names, of_row = np.unique(subject_keys(table)[rows], return_inverse=True)
    order = np.argsort(
        seeds.derive(seeds.text_keys(names.tolist()), f"folds/{seed}"), kind="stable"
    )
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    counts = np.zeros((len(names), int(codes.max(initial=0)) + 2), np.int64)
    np.add.at(counts, (rank[of_row], codes[rows] + 1), 1)
    return rows, _Groups(counts=counts, of_row=rank[of_row], place=order)


def _deal(counts_GK: np.ndarray, num_parts: int) -> np.ndarray:
    """The part of each group: the largest first, each where its classes are rarest so far.

    Groups of one row come last and fill up each class by itself; parts that have the fewest groups
    go first where it makes no difference.
    """
    part_G = np.full(len(counts_GK), -1)
    size_G = counts_GK.sum(axis=1)
    share_K = np.maximum(counts_GK.sum(axis=0), 1) / num_parts
    have_PK = np.zeros((num_parts, counts_GK.shape[1]))
    groups_P = np.zeros(num_parts)
    for group in np.argsort(-size_G, kind="stable"):
        if size_G[group] == 1:
            break
        counts_K = counts_GK[group] / share_K
        cost_P = ((2 * have_PK + counts_K) * counts_K).sum(axis=1)
        part = np.lexsort((groups_P, cost_P.round(9)))[0]
        part_G[group] = part
        have_PK[part] += counts_K
        groups_P[part] += 1
    return _deal_singles(part_G, counts_GK, num_parts)


def _deal_singles(part_G: np.ndarray, counts_GK: np.ndarray, num_parts: int) -> np.ndarray:
    single_G = part_G < 0
    rows_P = np.bincount(
        part_G[~single_G], weights=counts_GK[~single_G].sum(axis=1), minlength=num_parts
    )
    for klass in range(counts_GK.shape[1]):
        of_class = np.flatnonzero(single_G & (counts_GK[:, klass] == 1))
        dealt = ~single_G & (counts_GK[:, klass] > 0)
        have_P = np.bincount(part_G[dealt], weights=counts_GK[dealt, klass], minlength=num_parts)
        level_PN = have_P[:, None] + np.arange(len(of_class))
        parts_PN = np.broadcast_to(np.arange(num_parts)[:, None], level_PN.shape)
        order = np.lexsort((rows_P[parts_PN.ravel()], level_PN.ravel()))[: len(of_class)]
        part_G[of_class] = parts_PN.ravel()[order]
        rows_P += np.bincount(part_G[of_class], minlength=num_parts)
    return part_G


def _hold_out(counts_GK: np.ndarray, available_G: np.ndarray) -> np.ndarray:
    """Marks about one in eight of the available groups, with about an eighth of each class."""
    groups = np.flatnonzero(available_G)
    if len(groups) < 2:
        raise ValueError("too few subjects: none is left for validation beside training")
    num_parts = min(VALIDATION_PARTS, len(groups))
    part_G = _deal(counts_GK[groups], num_parts)
    total_K = np.maximum(counts_GK[groups].sum(axis=0), 1)
    have_PK = np.stack([counts_GK[groups[part_G == part]].sum(axis=0) for part in range(num_parts)])
    distance_P = ((have_PK / total_K - 1 / num_parts) ** 2).sum(axis=1)
    distance_P[have_PK.sum(axis=1) == 0] = np.inf
    held = np.zeros(len(counts_GK), bool)
    held[groups[part_G == distance_P.argmin()]] = True
    return held


def _fold(
    index: int,
    num_folds: int,
    rows: np.ndarray,
    group_of_row: np.ndarray,
    tested: np.ndarray,
    validates: np.ndarray,
) -> Fold:
    test, validation = tested[group_of_row], validates[group_of_row]
    return Fold(
        index=index,
        num_folds=num_folds,
        train_rows=rows[~test & ~validation],
        validation_rows=rows[validation & ~test],
        test_rows=rows[test],
    )

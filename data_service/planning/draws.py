"""The draws of one stage: which faces fill given slots, with whom, aiming at what.

Shapes: B samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from data_service import seeds
from data_service.folds import Fold, class_codes
from data_service.lakes import columns
from data_service.lakes.window import Pieces, Window
from data_service.planning.needs import DataNeeds
from data_service.planning.partners import Candidates, Samples
from data_service.planning.synthetic_slots import (
    LiveRows,
    LiveSlots,
    PoolRows,
    SealedSlots,
    in_epochs,
    most_share,
)
from data_service.schema import Expression

Labels = Literal["given", "votes"]
"""Whether a sample has its face's own class, or one drawn anew from the votes on the face."""


class LakeRows:
    """What a plan must know of the lake: class, subject, group and sitting of every training row.

    Subjects are numbered by name; a row without one has subject -1 and is a group of its own, and
    so is a row whose sitting is not known.
    """

    def __init__(
        self, table: pa.Table, fold: Fold, classes: Sequence[Expression], labels: Labels = "given"
    ) -> None:
        self.count = table.num_rows
        self.classes = tuple(classes)
        self.train = np.zeros(self.count, bool)
        self.train[fold.train_rows] = True
        self.class_of_row = class_codes(table, classes)
        names = np.array([name or "" for name in table["subject"].to_pylist()], dtype="U")
        known = np.array([name is not None for name in table["subject"].to_pylist()]) & self.train
        subjects, codes = np.unique(names[known], return_inverse=True)
        self.subjects = tuple(map(str, subjects))
        self.subject_of_row = np.full(self.count, -1)
        self.subject_of_row[known] = codes
        alone = len(subjects) + np.arange(self.count)
        self.group_of_row = np.where(known, self.subject_of_row, alone)
        self.sitting_of_row = _sittings(table["sitting"], self.subject_of_row)
        self.votes_NK = columns.votes(table, classes) if labels == "votes" else None


def _sittings(sittings: pa.ChunkedArray, subject_of_row: np.ndarray) -> np.ndarray:
    """A number for every sitting of every subject; -1 - row where it is not known."""
    names = sittings.to_pylist()
    known = np.array([name is not None for name in names]) & (subject_of_row >= 0)
    number_of_row = -1 - np.arange(len(names))
    _, codes = np.unique(np.array([name or "" for name in names], "U")[known], return_inverse=True)
    number_of_row[known] = subject_of_row[known] * (codes.max(initial=0) + 1) + codes
    return number_of_row


class StageDraws:
    """Fills the slots of one stage, in any order: slot n's face depends on nothing but n."""

    def __init__(
        self,
        stage: int,
        needs: DataNeeds,
        lake: LakeRows,
        pool: PoolRows | None,
        seed: int,
        batch: int,
        window: Window | None = None,
    ) -> None:
        self._needs, self._lake, self._pool, self._seed = needs, lake, pool, seed
        self._batch = batch
        self._window = None if needs.balance else window
        self._name = f"stage {stage}"
        self._classes = self._stage_classes()
        wanted = lake.train
        if lake.classes:
            wanted = wanted & np.isin(lake.class_of_row, self._classes)
        elif needs.balance or needs.partners or needs.target != "own":
            raise ValueError(f"{self._name}: balance, partners and targets need expressions")
        self._rows = np.flatnonzero(wanted)
        if not len(self._rows):
            raise ValueError(f"{self._name}: the fold has no training face of its classes")
        self._rows_of = {
            k: np.flatnonzero(wanted & (lake.class_of_row == k)) for k in self._classes
        }
        lacking = [str(lake.classes[k]) for k, rows in self._rows_of.items() if not len(rows)]
        if needs.balance and lacking:
            raise ValueError(f"{self._name}: the fold has no training face of {', '.join(lacking)}")
        if needs.target == "other_expression" and len(self._classes) < 2:
            raise ValueError(f"{self._name}: another expression needs at least two classes")
        self._slots = self._synthetic_slots(stage)
        self._orders: dict[str, dict[int, np.ndarray]] = {}

    def draw(self, slot_B: np.ndarray, key_B: np.ndarray) -> dict[str, Any]:
        """Rows, classes, subjects, partners and targets of the samples in those slots."""
        before_B, synthetic_B = self._slots.numbers(slot_B)
        rows_B = np.empty(len(slot_B), np.int64)
        rows_B[~synthetic_B] = self._real_rows((slot_B - before_B)[~synthetic_B])
        if synthetic_B.any():
            shown_S = self._slots.rows(int(slot_B[0]), before_B[synthetic_B])
            rows_B[synthetic_B] = self._lake.count + shown_S
        class_B, source_B = self._class_and_source(rows_B, synthetic_B)
        given_B = class_B
        if self._lake.votes_NK is not None:
            class_B = self._voted(self._lake.votes_NK, key_B, rows_B, class_B)
        group_B = self._lake.group_of_row[source_B]
        samples = Samples(
            key_B=key_B,
            row_B=rows_B,
            class_B=class_B,
            given_B=given_B,
            group_B=group_B,
            sitting_B=self._lake.sitting_of_row[source_B],
        )
        partner_rows, partner_class, partner_valid = {}, {}, {}
        for rule in self._needs.partners:
            partner_rows[rule], partner_valid[rule] = self._candidates.draw(rule, samples)
            drawn_B = partner_rows[rule]
            partner_class[rule], _ = self._class_and_source(drawn_B, drawn_B >= self._lake.count)
        return {
            "rows": rows_B,
            "expression": class_B,
            "target_expression": self._targets(key_B, class_B, partner_class),
            "subject": self._lake.subject_of_row[source_B],
            "synthetic": synthetic_B,
            "partner_rows": partner_rows,
            "partner_expression": partner_class,
            "partner_valid": partner_valid,
        }

    def pieces(self) -> Pieces | None:
        """What to read when of a lake larger than memory; None for a stage without a window."""
        if self._window is None:
            return None
        return Pieces(self._rows, self._window, self._batch * (1 - self._slots.share))

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process starts from: it makes its own orders."""
        return self.__dict__ | {"_orders": {}}

    @cached_property
    def _candidates(self) -> Candidates:
        rows = self._rows
        lake = self._lake
        return Candidates(
            rows, lake.class_of_row[rows], lake.group_of_row[rows], lake.sitting_of_row[rows]
        )

    def _stage_classes(self) -> np.ndarray:
        wanted = self._needs.classes or self._lake.classes
        unknown = [str(one) for one in wanted if one not in self._lake.classes]
        if unknown:
            raise ValueError(
                f"{self._name} needs {', '.join(unknown)}, which the run does not have; its "
                f"classes: {', '.join(self._lake.classes)}"
            )
        return np.array(sorted(self._lake.classes.index(one) for one in wanted), np.int64)

    def _synthetic_slots(self, stage: int) -> SealedSlots | LiveSlots:
        asked, pool, name = self._needs.synthetic_share, self._pool, self._name
        if asked == 0:
            return SealedSlots(name, np.empty(0, np.int64), Fraction(0), self._seed)
        if pool is None:
            raise ValueError(f"{name} shows synthetic faces, but the plan has no sealed pool")
        real = len(self._rows)
        exact = None if asked == "proportional" else Fraction(asked).limit_denominator(10**6)
        if isinstance(pool, LiveRows):
            if exact is None:
                raise ValueError(f"{name}: a share in proportion to its pool needs a sealed one")
            return LiveSlots(stage, name, pool, self._classes, real, exact, self._batch, self._seed)
        rows = np.flatnonzero(np.isin(pool.class_of_row, self._classes))
        if exact is None:
            share = Fraction(len(rows), len(rows) + real)
        else:
            share = min(exact, most_share(real, len(rows)))
        return SealedSlots(name, rows, share, self._seed)

    def _real_rows(self, draw_B: np.ndarray) -> np.ndarray:
        if not self._needs.balance:
            return self._in_epochs("real", self._rows, draw_B)
        round_B, place_B = np.divmod(draw_B, len(self._classes))
        counter_BK = round_B[:, None] * len(self._classes) + np.arange(len(self._classes))
        order_BK = seeds.keys(self._seed, f"{self._name}/rounds", counter_BK).argsort(axis=1)
        class_B = self._classes[order_BK[np.arange(len(draw_B)), place_B]]
        rows_B = np.empty_like(draw_B)
        for klass in np.unique(class_B):
            mine = class_B == klass
            rows_B[mine] = self._in_epochs(f"real/{klass}", self._rows_of[klass], round_B[mine])
        return rows_B

    def _in_epochs(self, stream: str, rows: np.ndarray, draw_B: np.ndarray) -> np.ndarray:
        return in_epochs(partial(self._order, stream), rows, draw_B)

    def _order(self, stream: str, epoch: int, count: int) -> np.ndarray:
        """The order of an epoch; of each stream the last two are kept."""
        kept = self._orders.setdefault(stream, {})
        order = kept.get(epoch)
        if order is None:
            for old in list(kept)[:-1]:
                kept.pop(old, None)
            order = kept[epoch] = self._new_order(f"{self._name}/{stream}", epoch, count)
        return order

    def _new_order(self, stream: str, epoch: int, count: int) -> np.ndarray:
        if self._window is None:
            return seeds.shuffled(self._seed, stream, epoch, count)
        piece_N = self._rows // self._window.chunk
        return seeds.sliding_order(self._seed, stream, epoch, piece_N, self._window.faces)

    def _class_and_source(
        self, rows_B: np.ndarray, synthetic_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The class, and the lake's row that the face is or was made from."""
        if self._pool is None or not synthetic_B.any():
            return self._lake.class_of_row[rows_B], rows_B
        class_B, source_B = np.empty_like(rows_B), rows_B.copy()
        pool_B = rows_B[synthetic_B] - self._lake.count
        source_B[synthetic_B] = self._pool.source_rows[pool_B]
        class_B[synthetic_B] = self._pool.class_of_row[pool_B]
        class_B[~synthetic_B] = self._lake.class_of_row[rows_B[~synthetic_B]]
        return class_B, source_B

    def _voted(
        self, votes_NK: np.ndarray, key_B: np.ndarray, rows_B: np.ndarray, class_B: np.ndarray
    ) -> np.ndarray:
        """A class of the stage drawn for each sample in proportion to its face's votes; the own
        class where there are none. In the mean the loss is that on soft labels.

        Source: Barsoum et al., ICMI 2016 (probabilistic label drawing).
        """
        voted_B = class_B.copy()
        real = np.flatnonzero(rows_B < self._lake.count)
        sums_RK = votes_NK[rows_B[real]][:, self._classes].cumsum(axis=1)
        drawn_R = seeds.uniforms(key_B[real], "vote") * sums_RK[:, -1]
        place_R = (sums_RK <= drawn_R[:, None]).sum(axis=1)
        known = sums_RK[:, -1] > 0
        voted_B[real[known]] = self._classes[place_R[known]]
        return voted_B

    def _targets(
        self, key_B: np.ndarray, class_B: np.ndarray, partner_class: dict[str, np.ndarray]
    ) -> np.ndarray:
        if self._needs.target == "own":
            return class_B
        if self._needs.target == "partner":
            return partner_class[self._needs.partners[0]]
        other_B = seeds.integers(key_B, "target", len(self._classes) - 1)
        other_B += other_B >= np.searchsorted(self._classes, class_B)
        return self._classes[other_B]

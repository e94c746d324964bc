"""Which samples of a stage are synthetic, and which face of the pool each of them shows.

Shapes: B samples of a step, S synthetic ones.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pyarrow as pa

from data_service import seeds
from data_service.folds import class_codes
from data_service.schema import Expression
from data_service.synthesis.live_pool import WINDOW_STEPS, LivePool

MOST_REPEATS = 4
"""A synthetic face is shown at most so many times as often as a real one: of a few faces that the
gate let pass, and on which it may have erred, a network would else learn too much."""
CATCH_UP = 2
"""A live pool that came late is shown at most so many times as often as asked, to catch up."""
MOST = Fraction(9, 10)
"""No more of what a window shows is synthetic."""


def most_share(real: int, synthetic: int) -> Fraction:
    """The largest share of synthetic faces, with so many faces of either kind."""
    return Fraction(MOST_REPEATS * synthetic, MOST_REPEATS * synthetic + real)


class PoolRows:
    """Class and source row of every face of a sealed pool; all are made from training faces."""

    def __init__(self, table: pa.Table, train: np.ndarray, classes: tuple[Expression, ...]) -> None:
        self._train, self._classes = train, classes
        self._set(table)

    def _set(self, table: pa.Table) -> None:
        self.source_rows = table["source_row"].to_numpy().astype(np.int64)
        if not self._train[self.source_rows].all():
            raise ValueError(
                "the pool has faces made from subjects that this fold validates or tests on"
            )
        self.class_of_row = class_codes(table, self._classes)


class LiveRows(PoolRows):
    """The same of a live pool's faces, as far as they were asked for."""

    def __init__(self, live: LivePool, train: np.ndarray, classes: tuple[Expression, ...]) -> None:
        self.live = live
        super().__init__(live.table(0), train, classes)

    def grow(self, count: int) -> None:
        """To at least the first `count` faces."""
        if len(self.source_rows) < count:
            self._set(self.live.table(count))


class SealedSlots:
    """A fixed share of a stage's slots, exact by cumulative rounding; the pool in epochs."""

    def __init__(self, name: str, rows: np.ndarray, share: Fraction, seed: int) -> None:
        self._rows, self.share = rows, share
        self._order = partial(seeds.permutation, seed, f"{name}/synthetic")

    def numbers(self, slot_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Synthetic samples before each slot of a step, and whether it shows one itself."""
        before_B, after_B = (
            slots * self.share.numerator // self.share.denominator for slots in (slot_B, slot_B + 1)
        )
        return before_B, after_B > before_B

    def rows(self, step_slot: int, number_S: np.ndarray) -> np.ndarray:
        """The faces, by their row of the pool, of the synthetic samples of those numbers."""
        return in_epochs(self._order, self._rows, number_S)


class LiveSlots:
    """Windows of slots, each with as many synthetic ones as its faces can bear and the share asks.

    The share is that of the stage so far: what a window lacked, later ones make up for, up to
    CATCH_UP times the share. A window runs through the faces that it may see in epochs of its own.
    """

    def __init__(
        self,
        stage: int,
        name: str,
        pool: LiveRows,
        classes: np.ndarray,
        real: int,
        share: Fraction,
        batch: int,
        seed: int,
    ) -> None:
        self._stage, self._name, self._pool, self._classes = stage, name, pool, classes
        self._real, self.share, self._seed = real, share, seed
        self._slots = WINDOW_STEPS * batch
        self._before = [0]

    def numbers(self, slot_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of sealed ones; the slots are those of one step."""
        window = int(slot_B[0]) // self._slots
        first, after = self._shown(window), self._shown(window + 1)
        within_B = slot_B - window * self._slots
        before_B, after_B = (
            first + slots * (after - first) // self._slots for slots in (within_B, within_B + 1)
        )
        return before_B, after_B > before_B

    def rows(self, step_slot: int, number_S: np.ndarray) -> np.ndarray:
        """As of sealed ones, for the step that begins at that slot."""
        window = step_slot // self._slots
        order = partial(seeds.permutation, self._seed, f"{self._name}/synthetic/{window}")
        return in_epochs(order, self._visible(window), number_S - self._shown(window))

    def _shown(self, window: int) -> int:
        """Synthetic samples of the stage before that window."""
        while len(self._before) <= window:
            self._before.append(self._before[-1] + self._count(len(self._before) - 1))
        return self._before[window]

    def _count(self, window: int) -> int:
        """Synthetic samples of a window."""
        owed = int(self.share * (window + 1) * self._slots) - self._before[window]
        most = most_share(self._real, len(self._visible(window)))
        return max(0, min(owed, int(min(most, CATCH_UP * self.share, MOST) * self._slots)))

    def _visible(self, window: int) -> np.ndarray:
        """The rows of the pool that the window may show."""
        count = self._pool.live.visible(self._stage, window)
        self._pool.grow(count)
        return np.flatnonzero(np.isin(self._pool.class_of_row[:count], self._classes))


def in_epochs(
    order: Callable[[int, int], np.ndarray], rows: np.ndarray, number_S: np.ndarray
) -> np.ndarray:
    """The rows at those places of an endless series of orders of `rows`.

    `order(epoch, count)` is the order of an epoch.
    """
    epoch_S, place_S = np.divmod(number_S, max(len(rows), 1))
    found_S = np.empty_like(number_S)
    for epoch in np.unique(epoch_S):
        mine = epoch_S == epoch
        found_S[mine] = rows[order(int(epoch), len(rows))[place_S[mine]]]
    return found_S

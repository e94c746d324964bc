"""How far ahead of the batch that is built steps are planned, and their faces read from the disk.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cluster.limits import free_bytes
from data_service.lakes.mapped import MappedFaces
from data_service.lakes.window import Pieces
from data_service.planning.plan import Plan

KEPT_SHARE = 0.95
"""Of the memory that is free when a stage begins, what faces may fill; more is needed later."""


class LookAhead:
    """Has the faces of coming steps read; where a stage has a window, in pieces of the file.

    `faces` says how many to plan ahead: many of a large lake, but for a plan that `decides`, as
    one with a live pool does of what a step shows, which is not to happen early.
    """

    def __init__(self, plan: Plan, mapped: MappedFaces, *, decides: bool = False) -> None:
        self._plan, self._mapped = plan, mapped
        self._pieces: dict[int, tuple[Pieces, int] | None] = {}
        self.faces = 0 if decides else mapped.faces_ahead

    def expect(self, step: int, own_B: np.ndarray, partners: Sequence[np.ndarray]) -> None:
        """The step shows those rows; the lake's among them are read."""
        if not self._mapped.is_large:
            return
        own_B, partners_B = self._of_lake([own_B]), self._of_lake(partners)
        found = self._pieces_of(self._plan.stage_of(step))
        if found is None:
            self._mapped.expect(np.concatenate([own_B, partners_B]))
        else:
            self._mapped.expect(partners_B)
            self._mapped.enter(found[0].entering(step, own_B))

    def shown(self, step: int) -> None:
        """The step's batch is built: what only it and those before it show is let go.

        Of a lake too large for memory always the same part stays, as much as there is room for:
        if all came and went, each face would have gone before the next epoch shows it.
        """
        for found in self._pieces.values():
            if found is not None:
                pieces, keep = found
                self._mapped.leave(pieces.leaving(step), keep=keep)

    def following(self, last: range) -> Iterator[range]:
        """Blocks of steps after the last one, to the end of its stage; none of a small lake."""
        stop = self._plan.steps_of(self._plan.stage_of(last[-1])).stop if self.faces else last.stop
        for first in range(last.stop, stop, len(last)):
            yield range(first, min(first + len(last), stop))

    def _of_lake(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        together = np.concatenate([np.empty(0, np.int64), *rows])
        return together[together < len(self._mapped.faces)]

    def _pieces_of(self, stage: int) -> tuple[Pieces, int] | None:
        if stage not in self._pieces:
            pieces = self._plan.pieces(stage)
            free = KEPT_SHARE * free_bytes()
            self._pieces[stage] = None if pieces is None else (pieces, pieces.kept(free))
        return self._pieces[stage]

"""How far ahead of the batch that is built steps are planned, and their faces read from the disk.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_service.lakes.mapped import MappedFaces
from data_service.lakes.window import Pieces
from data_service.planning.plan import Plan


class LookAhead:
    """Has the faces of coming steps read; where a stage has a window, in pieces of the file.

    `faces` says how many to plan ahead: many of a large lake, but for a plan that `decides`, as
    one with a live pool does of what a step shows, which is not to happen early.
    """

    def __init__(self, plan: Plan, mapped: MappedFaces, *, decides: bool = False) -> None:
        self._plan, self._mapped = plan, mapped
        self._pieces: dict[int, Pieces | None] = {}
        self.faces = 0 if decides else mapped.faces_ahead

    def expect(self, step: int, own_B: np.ndarray, partners: Sequence[np.ndarray]) -> None:
        """The step shows those rows; the lake's among them are read."""
        if not self._mapped.is_large:
            return
        own_B, partners_B = self._of_lake([own_B]), self._of_lake(partners)
        pieces = self._pieces_of(self._plan.stage_of(step))
        entering = own_B if pieces is None else pieces.entering(step, own_B)
        self._mapped.expect(
            np.concatenate([own_B, partners_B]), read=np.concatenate([entering, partners_B])
        )

    def following(self, last: range) -> Iterator[range]:
        """Blocks of steps after the last one, to the end of its stage; none of a small lake."""
        stop = self._plan.steps_of(self._plan.stage_of(last[-1])).stop if self.faces else last.stop
        for first in range(last.stop, stop, len(last)):
            yield range(first, min(first + len(last), stop))

    def _of_lake(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        together = np.concatenate([np.empty(0, np.int64), *rows])
        return together[together < len(self._mapped.faces)]

    def _pieces_of(self, stage: int) -> Pieces | None:
        if stage not in self._pieces:
            self._pieces[stage] = self._plan.pieces(stage)
        return self._pieces[stage]

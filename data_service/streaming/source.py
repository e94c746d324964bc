"""From a plan to pixels: builds the batch of any step from the lake's and the pool's mapped faces.

Shapes: B samples, N rows, S side of a crop, C channels, L landmarks, A attributes, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from data_service import seeds
from data_service.crops import AugmentConfig, Crops, Faces
from data_service.lakes import columns
from data_service.lakes.lake import Lake
from data_service.planning.plan import Plan, StepPlan
from data_service.streaming.ahead import LookAhead
from data_service.streaming.packing import Block, PackedBatch, Specs
from data_service.synthesis.live_pool import LivePool
from data_service.synthesis.pool import SealedPool

Values = dict[str, np.ndarray]
Images = dict[str, tuple[np.ndarray, Crops]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Draft:
    """What a batch is to hold: all arrays' types and shapes, the small ones, the cuts."""

    step: int
    specs: Specs
    values: Values
    images: Images

    @property
    def own_rows(self) -> np.ndarray:
        return self.values["row"]

    @property
    def partner_rows(self) -> list[np.ndarray]:
        return [rows for name, (rows, _) in self.images.items() if name.startswith("partner/")]

    @property
    def num_faces(self) -> int:
        return max(1, len(self.own_rows) + sum(map(len, self.partner_rows)))


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSource:
    """Builds batches; small enough to be sent to the process that does it.

    `side` is the side of the crops that the networks see; `attributes` names the attribute columns
    of a batch. Faces are opened where they are first needed, through the node's shared map.
    """

    lake: Path
    plan: Plan
    side: int
    augment: AugmentConfig
    pool: Path | LivePool | None = None
    attributes: tuple[str, ...] = ()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PackedBatch:
        """What worker `rank` of `world` sees in a step.

        Arrays: `row`, `key`, `synthetic`, `expression`, `target_expression`, `subject`; `view/NAME`
        for each view; `partner/RULE/faces`, `/expression`, `/valid` for each rule, with the field
        intensity also `/intensity`; and the fields that the stage asked for. Faces are uint8
        B x S x S x C.
        """
        (block,) = self.blocks([range(step, step + 1)], rank, world)
        return block.batches[0]

    def blocks(
        self, blocks: Iterable[range], rank: int = 0, world: int = 1, *, goes_on: bool = False
    ) -> Generator[Block]:
        """The batches of several steps at a time, side by side in memory.

        While one block is built, the system reads what the next ones need from the disk. Where it
        `goes_on`, the steps after the last block will be asked for next: theirs are read too.
        """
        ahead: deque[tuple[bool, list[_Draft]]] = deque()
        after_first = 0
        for wanted, steps in self._with_following(blocks, goes_on):
            drafts = self._drafts(steps, rank, world)
            after_first += _num_faces(drafts) if ahead else 0
            ahead.append((wanted, drafts))
            while after_first >= max(1, self._look_ahead.faces):
                yield self._built(ahead.popleft()[1])
                after_first -= _num_faces(ahead[0][1])
                if not ahead[0][0]:
                    return
        for wanted, drafts in ahead:
            if wanted:
                yield self._built(drafts)

    def _with_following(
        self, blocks: Iterable[range], goes_on: bool
    ) -> Generator[tuple[bool, range]]:
        """The blocks, and those that come after them; with each whether it is to be built."""
        last = None
        for last in blocks:
            yield True, last
        if goes_on and last is not None:
            for steps in self._look_ahead.following(last):
                yield False, steps

    def _drafts(self, steps: range, rank: int, world: int) -> list[_Draft]:
        drafts = [self._draft(step, rank, world) for step in steps]
        for draft in drafts:
            self._look_ahead.expect(draft.step, draft.own_rows, draft.partner_rows)
        return drafts

    def _built(self, drafts: list[_Draft]) -> Block:
        block = Block.allocate([(draft.step, draft.specs) for draft in drafts])
        for packed, draft in zip(block.batches, drafts, strict=True):
            arrays = packed.arrays()
            for name, array in draft.values.items():
                arrays[name][...] = array
            for name, (rows_B, crops) in draft.images.items():
                crops.cut(self._faces, rows_B, arrays[name])
        self._look_ahead.shown(drafts[-1].step)
        return block

    def _draft(self, step: int, rank: int, world: int) -> _Draft:
        part = self.plan.step(step).shard(rank, world)
        needs = self.plan.stages[part.stage].needs
        values, images = _labels(part), self._images(part)
        values |= self._fields(part, needs.fields, images[f"view/{needs.views[0]}"][1])
        specs: dict = {name: (array.dtype.str, array.shape) for name, array in values.items()}
        shape = (len(part), self.side, self.side, self._lake.manifest.channels)
        specs |= dict.fromkeys(images, ("|u1", shape))
        return _Draft(step=step, specs=specs, values=values, images=images)

    def __getstate__(self) -> dict[str, object]:
        """What a copy in another process starts from: the fields, not what was opened here."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def most_bytes(self) -> int:
        """Pixels of the largest global batch of any stage."""
        faces = 0
        for index, stage in enumerate(self.plan.stages):
            shown = len(stage.needs.views) + len(stage.needs.partners)
            faces = max(faces, shown * self.plan.batch_images(index))
        return faces * self.side**2 * self._lake.manifest.channels

    def _images(self, part: StepPlan) -> Images:
        """Which rows each array of faces shows, and how they are cut out."""
        needs = self.plan.stages[part.stage].needs
        images = {f"view/{view}": (part.rows, self._crops(part, view)) for view in needs.views}
        own = images[f"view/{needs.views[0]}"][1]
        for rule, rows_B in part.partner_rows.items():
            images[f"partner/{rule}/faces"] = (rows_B, own)
        return images

    def _crops(self, part: StepPlan, view: str) -> Crops:
        face_side = self._lake.manifest.image_size
        if view == "plain":
            return Crops.centre(len(part), face_side, self.side)
        return Crops.draw(view_key(part.key, view), face_side, self.side, self.augment)

    def _fields(self, part: StepPlan, wanted: tuple[str, ...], crops: Crops) -> Values:
        values = {name: _of_rows(self._columns[name], part.rows) for name in wanted}
        if "landmarks" in values:
            values["landmarks"] = crops.move(values["landmarks"])
        for name in {"intensity", "attributes"}.intersection(values):
            for rule, rows_B in part.partner_rows.items():
                values[f"partner/{rule}/{name}"] = _of_rows(self._columns[name], rows_B)
        for name in values:
            if name.endswith("attributes"):
                known_BA = values[name]
                values[name] = columns.mirrored_attributes(known_BA, self.attributes, crops.flip_B)
        return values

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        """The optional fields of every row of the lake, as far as a stage asks for them."""
        table, made = self._lake.table, {}
        wanted = {name for stage in self.plan.stages for name in stage.needs.fields}
        if "intensity" in wanted:
            made["intensity"] = columns.intensities(table)
        if "landmarks" in wanted:
            made["landmarks"] = columns.landmarks(table)
        if "attributes" in wanted:
            made["attributes"] = columns.attributes(table, self.attributes)
        if "votes" in wanted:
            made["votes"] = columns.votes(table, self.plan.classes)
        return made

    @cached_property
    def _lake(self) -> Lake:
        return Lake.open(self.lake)

    @cached_property
    def _look_ahead(self) -> LookAhead:
        return LookAhead(self.plan, self._lake.mapped, decides=isinstance(self.pool, LivePool))

    @cached_property
    def _faces(self) -> np.ndarray | _Joined:
        if self.pool is None:
            return self._lake.faces
        pool = self.pool if isinstance(self.pool, LivePool) else SealedPool.open(self.pool).faces
        return _Joined(self._lake.faces, pool)


def view_key(key_B: np.ndarray, view: str) -> np.ndarray:
    """The key that a view's augmentation is drawn from."""
    return key_B if view == "augmented" else seeds.derive(key_B, f"view {view}")


def _num_faces(drafts: list[_Draft]) -> int:
    return sum(draft.num_faces for draft in drafts)


def _labels(part: StepPlan) -> Values:
    values = {
        "row": part.rows,
        "key": part.key,
        "synthetic": part.synthetic,
        "expression": part.expression,
        "target_expression": part.target_expression,
        "subject": part.subject,
    }
    for rule in part.partner_rows:
        values[f"partner/{rule}/expression"] = part.partner_expression[rule]
        values[f"partner/{rule}/valid"] = part.partner_valid[rule]
    return values


def _of_rows(column_N: np.ndarray, rows_B: np.ndarray) -> np.ndarray:
    """What is known of those rows; of synthetic faces nothing is."""
    known_B = rows_B < len(column_N)
    values_B = np.full((len(rows_B), *column_N.shape[1:]), np.nan, np.float32)
    values_B[known_B] = column_N[rows_B[known_B]]
    return values_B


class _Joined:
    """The faces of a lake and of a pool, rows counted through."""

    def __init__(self, lake_NHWC: np.ndarray, pool: Faces) -> None:
        self._lake_NHWC, self._pool = lake_NHWC, pool

    def __getitem__(self, row: int) -> np.ndarray:
        count = len(self._lake_NHWC)
        return self._lake_NHWC[row] if row < count else self._pool[row - count]

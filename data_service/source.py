"""From a plan to pixels: builds the batch of any step from the lake's and the pool's mapped faces.

Shapes: B samples, N rows, S side of a crop, C channels, L landmarks, A attributes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from data_service import columns, seeds
from data_service.crops import AugmentConfig, Crops
from data_service.lake import Lake
from data_service.packing import Block, PackedBatch, Specs
from data_service.plan import Plan, StepPlan
from data_service.pool import SealedPool

Values = dict[str, np.ndarray]
Images = dict[str, tuple[np.ndarray, Crops]]


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
    pool: Path | None = None
    attributes: tuple[str, ...] = ()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PackedBatch:
        """What worker `rank` of `world` sees in a step.

        Arrays: `row`, `key`, `synthetic`, `expression`, `target_expression`, `subject`; `view/NAME`
        for each view; `partner/RULE/faces`, `/expression`, `/valid` for each rule, with the field
        intensity also `/intensity`; and the fields that the stage asked for. Faces are uint8
        B x S x S x C.
        """
        return self.block(range(step, step + 1), rank, world).batches[0]

    def block(self, steps: range, rank: int = 0, world: int = 1) -> Block:
        """The batches of several steps, side by side in memory."""
        drafts = [self._draft(step, rank, world) for step in steps]
        layouts = [(step, specs) for step, (specs, _, _) in zip(steps, drafts, strict=True)]
        block = Block.allocate(layouts)
        for packed, (_, values, images) in zip(block.batches, drafts, strict=True):
            arrays = packed.arrays()
            for name, array in values.items():
                arrays[name][...] = array
            for name, (rows_B, crops) in images.items():
                crops.cut(self._faces, rows_B, arrays[name])
        return block

    def _draft(self, step: int, rank: int, world: int) -> tuple[Specs, Values, Images]:
        """What a batch is to hold: all arrays' types and shapes, the small ones, the cuts."""
        part = self.plan.step(step).shard(rank, world)
        needs = self.plan.stages[part.stage].needs
        values, images = _labels(part), self._images(part)
        values |= self._fields(part, needs.fields, images[f"view/{needs.views[0]}"][1])
        specs: dict = {name: (array.dtype.str, array.shape) for name, array in values.items()}
        shape = (len(part), self.side, self.side, self._lake.manifest.channels)
        return specs | dict.fromkeys(images, ("|u1", shape)), values, images

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
    def _faces(self) -> np.ndarray | _Joined:
        if self.pool is None:
            return self._lake.faces
        return _Joined(self._lake.faces, SealedPool.open(self.pool).faces)


def view_key(key_B: np.ndarray, view: str) -> np.ndarray:
    """The key that a view's augmentation is drawn from."""
    return key_B if view == "augmented" else seeds.derive(key_B, f"view {view}")


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

    def __init__(self, lake_NHWC: np.ndarray, pool_NHWC: np.ndarray) -> None:
        self._lake_NHWC, self._pool_NHWC = lake_NHWC, pool_NHWC

    def __getitem__(self, row: int) -> np.ndarray:
        count = len(self._lake_NHWC)
        return self._lake_NHWC[row] if row < count else self._pool_NHWC[row - count]

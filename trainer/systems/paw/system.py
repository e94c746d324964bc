"""PaW: where an attribute shows is learnt from image labels; then parts and whole are weighed.

Source: Ding, Zhou, Zhou, Chellappa, AAAI 2018 (arXiv 1709.03851). Shapes: B images, C channels, H
height, W width, A attributes, S side of a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trainer.config import wanted
from trainer.nets.parts import cut_parts
from trainer.system import (
    DataNeeds,
    DatasetInfo,
    FaceBatch,
    Mean,
    Player,
    Prediction,
    Stage,
    StepContext,
    System,
    Turn,
)
from trainer.systems.paw.config import PawConfig, Weights
from trainer.systems.paw.losses import attribute_error, hint_error
from trainer.systems.paw.nets import Cascade, Localisers, Reader, same_size

Terms = Mapping[str, Tensor | Mean]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draft:
    """What a step finds without gradients: each attribute's part, and the teacher's middle map."""

    parts_BACSS: Tensor | None
    hint_BDhw: Tensor | None


class Paw(System):
    """Players: localisers, teacher, and the cascade of parts, whole, switch and relation."""

    def __init__(self, config: PawConfig, info: DatasetInfo) -> None:
        if not info.attributes:
            raise ValueError("paw: the data have no attribute to learn")
        self.config, self.info, self.plays = config, info, _plays(config)
        if not self.plays.intersection(("part", "whole")):
            raise ValueError("paw: system.weights.part and .whole are both 0; nothing is left")
        self.localisers = Localisers(config.network, info)
        self.teacher = Reader(config.network.teacher_widths, info)
        self.cascade = Cascade(config.network, config.gates, info, self.plays)

    def players(self) -> tuple[Player, ...]:
        config = self.config
        return (
            Player(name="localisers", module=self.localisers, optimizer=config.optimizer),
            Player(name="teacher", module=self.teacher, optimizer=config.optimizer),
            Player(name="cascade", module=self.cascade, optimizer=config.joint_optimizer),
        )

    def stages(self) -> tuple[Stage, ...]:
        config = self.config
        localise = Turn(player="localisers", terms=("localisation",), loss=self._localise)
        teach = Turn(player="teacher", terms=("teacher",), loss=self._teach)
        separate = Turn(player="cascade", terms=("part", "whole", "hint"), loss=self._separate)
        joint = Turn(player="cascade", terms=("attribute",), loss=self._joint)
        return (
            Stage(name="localise", images=config.localise_images, turns=(localise,)),
            Stage(name="teach", images=config.teacher_images, turns=(teach,)),
            Stage(
                name="separate",
                images=config.separate_images,
                turns=(separate,),
                prepare=self._draft,
                trains={"cascade": "[nh]*"},
            ),
            Stage(
                name="joint",
                images=config.joint_images,
                turns=(joint,),
                prepare=self._joint_draft,
                trains={"cascade": "[nj]*"},
            ),
        )

    def gates(self) -> Mapping[str, Tensor]:
        """How much parts counted on average in the last training batch."""
        switch = self.cascade.join_switch
        return {} if switch is None else {"part_share": switch.mean_opening}

    def _draft(self, ctx: StepContext) -> Draft:
        images_BCHW = ctx.batch.faces_BCHW
        hint_BDhw = self.teacher(images_BCHW)[1] if "hint" in ctx.wanted else None
        return Draft(parts_BACSS=self._parts(images_BCHW), hint_BDhw=hint_BDhw)

    def _joint_draft(self, ctx: StepContext) -> Draft:
        return Draft(parts_BACSS=self._parts(ctx.batch.faces_BCHW), hint_BDhw=None)

    def _parts(self, images_BCHW: Tensor) -> Tensor | None:
        """Each attribute's part, cut out where the localisers find it; None without part nets."""
        if self.cascade.net_parts is None:
            return None
        network = self.config.network
        places_BA2 = self.localisers.places(images_BCHW)
        return cut_parts(images_BCHW, places_BA2, network.part_share, network.part_side)

    def _localise(self, ctx: StepContext) -> Terms:
        maps = self.localisers(ctx.batch.faces_BCHW)
        errors = [attribute_error(self.localisers.logits(one), _labels(ctx.batch)) for one in maps]
        total = torch.stack([error.sum for error in errors]).sum()
        return {"localisation": Mean(sum=total, count=errors[0].count)}

    def _teach(self, ctx: StepContext) -> Terms:
        logits_BA = self.teacher(ctx.batch.faces_BCHW)[0]
        return {"teacher": attribute_error(logits_BA, _labels(ctx.batch))}

    def _separate(self, ctx: StepContext) -> Terms:
        batch, cascade, draft = ctx.batch, self.cascade, ctx.shared
        terms: dict[str, Tensor | Mean] = {}
        if "part" in ctx.wanted and cascade.net_parts is not None:
            part_BA = cascade.net_parts(draft.parts_BACSS)
            terms["part"] = attribute_error(part_BA, _labels(batch))
        if not ctx.wanted.intersection(("whole", "hint")) or cascade.net_whole is None:
            return terms
        whole_BA, middle_BDhw = cascade.net_whole(batch.faces_BCHW)
        if "whole" in ctx.wanted:
            terms["whole"] = attribute_error(whole_BA, _labels(batch))
        if "hint" in ctx.wanted and cascade.hint is not None:
            guess_BDhw = same_size(cascade.hint(middle_BDhw), draft.hint_BDhw)
            terms["hint"] = hint_error(guess_BDhw, draft.hint_BDhw)
        return terms

    def _joint(self, ctx: StepContext) -> Terms:
        logits_BA = self._answers(ctx.batch.faces_BCHW, ctx.shared.parts_BACSS)
        return {"attribute": attribute_error(logits_BA, _labels(ctx.batch))}

    def _answers(self, images_BCHW: Tensor, parts_BACSS: Tensor | None) -> Tensor:
        cascade = self.cascade
        part_BA = whole_BA = None
        if cascade.net_parts is not None:
            part_BA = cascade.net_parts(parts_BACSS)
        if cascade.net_whole is not None:
            whole_BA = cascade.net_whole(images_BCHW)[0]
        return cascade.answers(part_BA, whole_BA)

    def predict(self, batch: FaceBatch) -> Prediction:
        """Logits of the attributes, above 0 for there; where the localisers respond, in (0, 1)."""
        images_BCHW = batch.faces_BCHW
        logits_BA = self._answers(images_BCHW, self._parts(images_BCHW))
        maps = {}
        if self.cascade.net_parts is not None:
            response_BAhw = torch.stack(self.localisers(images_BCHW)).mean(0)
            maps["response"] = torch.sigmoid(response_BAhw)
        return Prediction(attributes_BA=logits_BA, maps=maps)


def _labels(batch: FaceBatch) -> Tensor:
    assert batch.attributes_BA is not None, "paw asks the data for attributes"
    return batch.attributes_BA


def _plays(config: PawConfig) -> frozenset[str]:
    weights = {item.name: getattr(config.weights, item.name) for item in fields(Weights)}
    return wanted(weights)


def build(config: PawConfig, info: DatasetInfo) -> Paw:
    """The system for these data; ValueError without attributes, or with neither part nor whole."""
    return Paw(config, info)


def data_needs(config: PawConfig) -> DataNeeds:
    """Images as they are, with the attributes that are learned."""
    return DataNeeds(fields=("attributes",), attributes=config.attributes, unaligned=True)

"""A generator with images at several sizes, against critics of each.

Source: Park, Kim, Ro, MMM 2019 (slides and abstract). Shapes: B faces, C channels, H height,
W width, K conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import wanted
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
from trainer.systems.multilevel_critic import losses
from trainer.systems.multilevel_critic.config import MultilevelCriticConfig
from trainer.systems.multilevel_critic.losses import Made
from trainer.systems.multilevel_critic.nets import Critics, Generator

YAW = "yaw"


class MultilevelCritic(System):
    """Two players: the generator, and all critics together."""

    def __init__(self, config: MultilevelCriticConfig, info: DatasetInfo) -> None:
        _check(config, info)
        self.config, self.num_classes = config, len(info.classes)
        self.rule = _rule(config)
        self.yaw = info.attributes.index(YAW) if config.pose else None
        num_conditions, network = self.num_classes + config.pose, config.network
        self.generator = Generator(
            network, info.channels, info.image_size, num_conditions, config.levels
        )
        seen = num_conditions if config.conditional else 0
        self.critics = Critics(network, info.channels, seen, config.levels)

    def players(self) -> tuple[Player, ...]:
        config = self.config
        return (
            Player(
                name="generator",
                module=self.generator,
                optimizer=config.optimizer,
                ema_halflife_images=config.ema_halflife_images,
            ),
            Player(name="critics", module=self.critics, optimizer=config.critic_optimizer),
        )

    def stages(self) -> tuple[Stage, ...]:
        judge = Turn(
            player="critics",
            terms=losses.CRITIC_TERMS,
            loss=self._judge,
            every=self.config.critic_every,
        )
        make = Turn(player="generator", terms=losses.GENERATOR_TERMS, loss=self._make)
        stage = Stage(
            name="adversarial",
            images=self.config.images,
            turns=(judge, make),
            prepare=self._edit_once,
        )
        return (stage,)

    def _edit_once(self, ctx: StepContext) -> Made | None:
        """The faces that the critics see, made once and without gradients."""
        if not ctx.wanted.intersection(losses.CRITIC_TERMS):
            return None
        return None if ctx.progress.step % self.config.critic_every else self._made(ctx.batch)

    def _judge(self, ctx: StepContext) -> Mapping[str, Mean]:
        return losses.critic_terms(self.critics, ctx.shared, ctx.wanted)

    def _make(self, ctx: StepContext) -> Mapping[str, Mean]:
        return losses.generator_terms(self.critics, self._made(ctx.batch), ctx.wanted)

    def _made(self, batch: FaceBatch) -> Made:
        yaw_B, paired_B = None, batch.partner_valid[self.rule] & ~batch.synthetic_B
        if self.yaw is not None:
            yaw_B = batch.partner_attributes[self.rule][:, self.yaw]
            paired_B = paired_B & ~yaw_B.isnan()
        condition_BK = self._condition(batch.target_expression_B, yaw_B)
        return Made(
            faces_BCHW=batch.faces_BCHW,
            targets_BCHW=batch.partners[self.rule],
            images=self.generator(batch.faces_BCHW, condition_BK),
            condition_BK=condition_BK,
            paired_B=paired_B,
        )

    def _condition(self, expression_B: Tensor, yaw_B: Tensor | None) -> Tensor:
        """The classes as one-hot numbers, then the yaw in units of `yaw_scale`, 0 if unknown."""
        condition_BK = functional.one_hot(expression_B, self.num_classes).float()
        if self.yaw is None:
            return condition_BK
        if yaw_B is None:
            yaw_B = condition_BK.new_zeros(len(condition_BK))
        turned_B1 = (yaw_B.nan_to_num(0.0) / self.config.yaw_scale).unsqueeze(1)
        return torch.cat([condition_BK, turned_B1], dim=1)

    def predict(self, batch: FaceBatch) -> Prediction:
        """The faces with their target expressions, and heads turned to the yaw that is told.

        Where none is told a head keeps its own, and where that is not known (a photograph, a pool's
        face) it turns to the front.
        """
        yaw_B = None
        if self.yaw is not None:
            told_BA = batch.target_attributes_BA
            known_BA = batch.attributes_BA if told_BA is None else told_BA
            yaw_B = None if known_BA is None else known_BA[:, self.yaw]
        condition_BK = self._condition(batch.target_expression_B, yaw_B)
        images = self.generator(batch.faces_BCHW, condition_BK)
        return Prediction(images_BCHW=images[max(images)].clamp(-1, 1))


def _rule(config: MultilevelCriticConfig) -> str:
    """Which face of the subject is the target: with `pose` of any sitting, since each has one."""
    return "same_subject_anytime" if config.pose else "same_subject"


def _check(config: MultilevelCriticConfig, info: DatasetInfo) -> None:
    """ValueError for levels that the decoder does not have, or weights that need levels."""
    halvings = len(config.network.channels) - 1
    if info.image_size % (1 << halvings):
        raise ValueError(
            f"faces of {info.image_size} px cannot be halved {halvings} times; set "
            "system.network.channels or data.image_size"
        )
    sides = [info.image_size >> count for count in range(1, halvings)]
    if strangers := sorted(set(config.levels) - set(sides)):
        raise ValueError(
            f"system.levels has {', '.join(map(str, strangers))}; valid at {info.image_size} px: "
            f"{', '.join(map(str, sides)) or 'none'}"
        )
    weights = {item.name: getattr(config.weights, item.name) for item in fields(config.weights)}
    idle = [name for name in losses.LEVEL_TERMS if name in wanted(weights)]
    if idle and not config.levels:
        raise ValueError(
            "system.levels is empty, so these weights must be 0: "
            + ", ".join(f"system.weights.{name}" for name in idle)
        )


def build(config: MultilevelCriticConfig, info: DatasetInfo) -> MultilevelCritic:
    """The system; ValueError for levels that do not fit the faces."""
    return MultilevelCritic(config, info)


def data_needs(config: MultilevelCriticConfig) -> DataNeeds:
    """Another expression of the same subject, which is the target; with `pose` both yaws."""
    return DataNeeds(
        partner=_rule(config),
        target="partner",
        balance=config.balance,
        fields=("attributes",) if config.pose else (),
        attributes=(YAW,) if config.pose else (),
    )

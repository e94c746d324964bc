"""TER-GAN: the expression of a source face on a target face, held to what both codes say.

Source: Ali and Hughes, ICPR 2020 (abstract). Targets are the batch's faces, sources their partners,
of other subjects. Shapes: B faces, C channels, H height, W width, E expression code, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from trainer.config import wanted
from trainer.losses.adversarial import joined, least_squares, masked_mean
from trainer.losses.reconstruction import absolute_error
from trainer.nets.blocks import PatchCritic
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
from trainer.systems.ter_gan.config import TerGanConfig, Weights
from trainer.systems.ter_gan.nets import Generator

GENERATOR_TERMS = (
    "adversarial",
    "reconstruction",
    "expression_consistency",
    "identity_consistency",
    "expression_class",
    "synthetic_class",
    "identity_class",
    "prototype",
)
_OF_MADE = frozenset(
    {"adversarial", "expression_consistency", "identity_consistency", "synthetic_class"}
)
_SOURCE = "other_subject"

Terms = Mapping[str, Tensor | Mean]


class TerGan(System):
    """Two players: generator (encoders, decoder, classifiers) and critic."""

    def __init__(self, config: TerGanConfig, info: DatasetInfo) -> None:
        _check(config, info)
        self.config, self.info = config, info
        self.generator = Generator(config.network, info, _plays(config))
        num_classes, widths = len(info.classes), config.network.critic_channels
        self.critic = PatchCritic(info.channels, num_classes, widths)

    def players(self) -> tuple[Player, ...]:
        config = self.config
        return (
            Player(
                name="generator",
                module=self.generator,
                optimizer=config.optimizer,
                ema_halflife_images=config.ema_halflife_images,
            ),
            Player(name="critic", module=self.critic, optimizer=config.critic_optimizer),
        )

    def stages(self) -> tuple[Stage, ...]:
        critic = Turn(player="critic", terms=("critic",), loss=self._critic_loss)
        generator = Turn(player="generator", terms=GENERATOR_TERMS, loss=self._generator_loss)
        stage = Stage(
            name="transfer",
            images=self.config.images,
            turns=(critic, generator),
            prepare=self._made,
        )
        return (stage,)

    def _made(self, ctx: StepContext) -> Tensor | None:
        """The faces that the critic's turn judges."""
        if "critic" not in ctx.wanted:
            return None
        batch = ctx.batch
        code_BE, _ = self.generator.expression(batch.partners[_SOURCE])
        return self.generator.transfer(batch.faces_BCHW, code_BE)

    def _one_hot(self, class_B: Tensor) -> Tensor:
        return functional.one_hot(class_B, len(self.info.classes)).float()

    def _critic_loss(self, ctx: StepContext) -> Terms:
        batch = ctx.batch
        real = self.critic(batch.faces_BCHW, self._one_hot(batch.expression_B))
        made = self.critic(ctx.shared, self._one_hot(batch.partner_expression[_SOURCE]))
        return {"critic": joined(least_squares(real, 1.0), least_squares(made, 0.0))}

    def _generator_loss(self, ctx: StepContext) -> Terms:
        batch, net, want = ctx.batch, self.generator, ctx.wanted
        own_BE, _ = net.expression(batch.faces_BCHW)
        identity_BI, maps = net.identity(batch.faces_BCHW)
        terms: dict[str, Tensor | Mean] = {}
        if "reconstruction" in want:
            again_BCHW = net.decoder(batch.faces_BCHW, maps, own_BE)
            terms["reconstruction"] = absolute_error(again_BCHW, batch.faces_BCHW)
        if "expression_class" in want:
            terms["expression_class"] = _class_error(net.classes(own_BE), batch.expression_B)
        if "identity_class" in want:
            assert net.subjects is not None
            known_B = batch.subject_B >= 0
            subject_B = batch.subject_B.clamp(min=0)
            terms["identity_class"] = _class_error(net.subjects(identity_BI), subject_B, known_B)
        if "prototype" in want:
            apart_BE = net.prototypes_KE[batch.expression_B] - own_BE.detach()
            terms["prototype"] = masked_mean(apart_BE.square().mean(1))
        if want & _OF_MADE:
            terms |= self._of_made(ctx, identity_BI, maps)
        return terms

    def _of_made(
        self, ctx: StepContext, identity_BI: Tensor, maps: list[Tensor]
    ) -> dict[str, Tensor | Mean]:
        """What is asked of the target's face with the source's expression."""
        batch, net, want = ctx.batch, self.generator, ctx.wanted
        class_B = batch.partner_expression[_SOURCE]
        source_BE, _ = net.expression(batch.partners[_SOURCE])
        made_BCHW = net.decoder(batch.faces_BCHW, maps, source_BE)
        terms: dict[str, Tensor | Mean] = {}
        if "adversarial" in want:
            scores = self.critic(made_BCHW, self._one_hot(class_B))
            terms["adversarial"] = least_squares(scores, 1.0)
        if want & {"expression_consistency", "synthetic_class"}:
            read_BE, _ = _still(net.expression, made_BCHW)
            if "expression_consistency" in want:
                apart_BE = read_BE - source_BE.detach()
                terms["expression_consistency"] = masked_mean(apart_BE.square().mean(1))
            if "synthetic_class" in want:
                terms["synthetic_class"] = _class_error(_still(net.classes, read_BE), class_B)
        if "identity_consistency" in want:
            read_BI, _ = _still(net.identity, made_BCHW)
            apart_BI = read_BI - identity_BI.detach()
            terms["identity_consistency"] = masked_mean(apart_BI.square().mean(1))
        return terms

    def predict(self, batch: FaceBatch) -> Prediction:
        """The class read from the expression code, and the face with another expression.

        With a partner `reference` it gets the reference's (transfer), else the mean code of its
        target class.
        """
        net = self.generator
        own_BE, _ = net.expression(batch.faces_BCHW)
        if "reference" in batch.partners:
            code_BE, _ = net.expression(batch.partners["reference"])
        else:
            code_BE = net.prototypes_KE[batch.target_expression_B]
        made_BCHW = net.transfer(batch.faces_BCHW, code_BE)
        return Prediction(
            logits_BK=net.classes(own_BE), images_BCHW=made_BCHW.clamp(-1, 1), features_BD=own_BE
        )


def _still(module: nn.Module, given: Tensor) -> Any:
    """What the module says, with a gradient for what is given alone.

    Else what reads made faces would learn patterns that the decoder hides in them.
    """
    still = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, still, (given,))


def _class_error(logits_BK: Tensor, class_B: Tensor, mask_B: Tensor | None = None) -> Mean:
    return masked_mean(functional.cross_entropy(logits_BK, class_B, reduction="none"), mask_B)


def _plays(config: TerGanConfig) -> frozenset[str]:
    weights = {item.name: getattr(config.weights, item.name) for item in fields(Weights)}
    return wanted(weights)


def _check(config: TerGanConfig, info: DatasetInfo) -> None:
    halvings = len(config.network.encoder_channels)
    if info.image_size % 2**halvings or info.image_size // 2**halvings < 2:
        raise ValueError(
            f"ter_gan: data.image_size is {info.image_size}; {halvings} halvings "
            f"(system.network.encoder_channels) need a multiple of {2**halvings}, at least "
            f"{2 * 2**halvings}"
        )
    if "identity_class" in _plays(config) and info.subjects < 2:
        raise ValueError(
            f"ter_gan: the training faces have {info.subjects} known subjects; at least 2 are "
            "needed, or system.weights.identity_class=0"
        )


def build(config: TerGanConfig, info: DatasetInfo) -> TerGan:
    """The system for these data; ValueError for a size that does not halve, or too few subjects."""
    return TerGan(config, info)


def data_needs(config: TerGanConfig) -> DataNeeds:
    """A face, and one of another subject whose expression it is to get."""
    return DataNeeds(partner=_SOURCE, target="partner")

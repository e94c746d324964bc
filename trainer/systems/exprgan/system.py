"""ExprGAN: a conditional adversarial auto-encoder whose expression code has an intensity.

Source: Ding, Sricharan, Chellappa, AAAI 2018 (arXiv 1709.03842) and the released code. Shapes:
B faces, C channels, H height, W width, K classes, Z identity code, d numbers of the expression code
per class, E = K d.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from data_service.schema import Expression
from trainer.config import wanted
from trainer.losses.adversarial import joined, logistic, masked_mean
from trainer.losses.perceptual import embedding_distance, feature_distance
from trainer.losses.reconstruction import absolute_error, smooth_error, total_variation
from trainer.nets.identity_source import FrozenIdentity, load_identity
from trainer.schedules import Schedule
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
from trainer.systems.exprgan import losses
from trainer.systems.exprgan.config import ExprganConfig
from trainer.systems.exprgan.critics import Critics, Terms
from trainer.systems.exprgan.losses import Draft
from trainer.systems.exprgan.nets import Critic, Generator, LatentCritic, expression_code
from trainer.systems.exprgan.views import num_channels, seen

_PAIR = "same_subject"


class Exprgan(System):
    """Three players: generator (encoder, decoder), image critic with Q, latent critic."""

    def __init__(self, config: ExprganConfig, info: DatasetInfo) -> None:
        self.config, self.info = config, info
        self.num_classes = len(info.classes)
        dims = config.code.dims_per_class
        known = Expression.NEUTRAL in info.classes
        self.neutral = info.classes.index(Expression.NEUTRAL) if known else None
        self.zero_class = self.neutral if config.code.neutral_is_zero else None
        self.generator = Generator(config.network, info, self.num_classes * dims)
        self.critic = Critic(
            config.network,
            info,
            dims,
            channels=num_channels(config.view, info.channels),
            reads=bool(_reading_terms(config)),
        )
        self.latent_critic = LatentCritic(config.network)
        self.critics = Critics(
            view=config.view,
            image=self.critic,
            latent=self.latent_critic,
            num_classes=self.num_classes,
            zero_class=self.zero_class,
        )
        self.identity = _identity_network(config, info)

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
            Player(
                name="latent_critic",
                module=self.latent_critic,
                optimizer=config.latent_critic_optimizer,
            ),
        )

    def frozen(self) -> Mapping[str, nn.Module]:
        return {"identity": self.identity} if self.identity else {}

    def stages(self) -> tuple[Stage, ...]:
        config = self.config
        full = (
            Turn(player="generator", terms=losses.GENERATOR_TERMS, loss=self._generator_loss),
            Turn(player="critic", terms=losses.CRITIC_TERMS, loss=self.critics.image_loss),
            Turn(
                player="latent_critic",
                terms=losses.LATENT_CRITIC_TERMS,
                loss=self.critics.latent_loss,
            ),
        )
        stages = (
            self._controller_stage(),
            Stage(
                name="reconstruction",
                images=config.reconstruction_images,
                turns=(full,),
                prepare=self._draft,
                weights=_settings(config.reconstruction_weights),
            ),
            Stage(
                name="refinement",
                images=config.refinement_images,
                turns=(full,),
                prepare=self._draft,
            ),
        )
        return tuple(stage for stage in stages if stage.images)

    def _controller_stage(self) -> Stage:
        """Stage 1: decoder, D_img and Q; the identity code comes from the prior, not a face."""
        weights = _settings(self.config.controller_weights)
        plays = wanted(weights)
        generator = Turn(
            player="generator",
            terms=("expression_code", "adversarial_image"),
            loss=self._controller_loss,
        )
        critic = Turn(player="critic", terms=losses.CRITIC_TERMS, loss=self.critics.image_loss)
        judges = plays.intersection(("critic", "expression_code_critic", "critic_mismatch"))
        makes = plays.intersection(generator.terms)
        return Stage(
            name="controller",
            images=self.config.controller_images,
            turns=((generator, critic),) if makes else (critic,),
            prepare=self._controller_draft,
            trains={"generator": "decoder.*", "critic": "*" if judges else "reading.*"},
            weights=weights,
            data=replace(data_needs(self.config), batch_images=self.config.controller_batch_images),
        )

    def _code(self, class_B: Tensor, magnitude_Bd: Tensor) -> Tensor:
        return expression_code(class_B, magnitude_Bd, self.num_classes, self.zero_class)

    def _draft(self, ctx: StepContext) -> Draft:
        faces_BCHW = ctx.batch.faces_BCHW
        made_class_B = self._made_class(ctx.batch)
        drawn = self._drawn(ctx, made_class_B, paired=bool(ctx.wanted & losses.PAIRED))
        made_BCHW, latent_BZ = faces_BCHW[:0], faces_BCHW.new_empty(0)
        if ctx.wanted.intersection(("critic", "expression_code_critic", "latent_critic")):
            latent_BZ, maps = self.generator.encoder(faces_BCHW)
            made_BCHW = self.generator.decoder(latent_BZ, drawn["code_BE"], faces_BCHW, maps)
        return Draft(class_B=made_class_B, made_BCHW=made_BCHW, latent_BZ=latent_BZ, **drawn)

    def _controller_draft(self, ctx: StepContext) -> Draft:
        faces_BCHW, class_B = ctx.batch.faces_BCHW, ctx.batch.expression_B
        shape = (len(ctx.batch), self.config.network.latent_dims)
        latent_BZ = ctx.noise("latent", shape, uniform=True)
        drawn = self._drawn(ctx, class_B, paired=False)
        made_BCHW = faces_BCHW[:0]
        if ctx.wanted.intersection(("critic", "expression_code_critic")):
            made_BCHW = self._from_prior(latent_BZ, drawn["code_BE"], faces_BCHW)
        return Draft(class_B=class_B, made_BCHW=made_BCHW, latent_BZ=latent_BZ, **drawn)

    def _drawn(self, ctx: StepContext, made_class_B: Tensor, *, paired: bool) -> dict[str, Tensor]:
        """The codes of a step: |z|, z uniform in [-1, 1), anew for every face (section 3.1).

        A face that is compared with its partner takes the partner's intensity: 1 if nobody told,
        and 1 for neutral faces, whose corpora call it 0.
        """
        shape = (len(ctx.batch), self.config.code.dims_per_class)
        made_Bd, own_Bd = (
            ctx.noise(name, shape, uniform=True).abs() for name in ("magnitude", "own_magnitude")
        )
        if paired:
            told_B = ctx.batch.partner_intensity[_PAIR].nan_to_num(1.0)
            if self.neutral is not None:
                told_B = torch.where(made_class_B == self.neutral, 1.0, told_B)
            made_Bd = torch.where(_paired(ctx.batch)[:, None], told_B[:, None], made_Bd)
        intensity_B = made_Bd.mean(1)
        if self.zero_class is not None:
            intensity_B = intensity_B * (made_class_B != self.zero_class)
        code_BE = self._code(made_class_B, made_Bd)
        own = self._code(ctx.batch.expression_B, own_Bd) if self.config.edit_faces else code_BE
        return {"code_BE": code_BE, "own_code_BE": own, "intensity_B": intensity_B}

    def _made_class(self, batch: FaceBatch) -> Tensor:
        return batch.target_expression_B if self.config.edit_faces else batch.expression_B

    def _from_prior(self, latent_BZ: Tensor, code_BE: Tensor, faces_BCHW: Tensor) -> Tensor:
        """A face of nobody, who has neither pixels nor maps."""
        nobody_BCHW = torch.zeros_like(faces_BCHW)
        _, maps = self.generator.encoder(nobody_BCHW) if self.generator.decoder.skips else ((), ())
        return self.generator.decoder(latent_BZ, code_BE, nobody_BCHW, maps)

    def _controller_loss(self, ctx: StepContext) -> Terms:
        draft: Draft = ctx.shared
        made_BCHW = self._from_prior(draft.latent_BZ, draft.code_BE, ctx.batch.faces_BCHW)
        return self.critics.judged(ctx, draft, made_BCHW)

    def _generator_loss(self, ctx: StepContext) -> Terms:
        draft: Draft = ctx.shared
        faces_BCHW = ctx.batch.faces_BCHW
        latent_BZ, maps = self.generator.encoder(faces_BCHW)
        made_BCHW = self.generator.decoder(latent_BZ, draft.code_BE, faces_BCHW, maps)
        terms = self.critics.judged(ctx, draft, made_BCHW) | self._compared(ctx, made_BCHW)
        if "pixel" in ctx.wanted:
            again_BCHW = made_BCHW
            if self.config.edit_faces:
                again_BCHW = self.generator.decoder(latent_BZ, draft.own_code_BE, faces_BCHW, maps)
            terms["pixel"] = losses.pixel_error(again_BCHW, faces_BCHW)
        if "adversarial_latent" in ctx.wanted:
            terms["adversarial_latent"] = logistic(self.latent_critic(latent_BZ), 1.0)
        return terms

    def _compared(self, ctx: StepContext, made_BCHW: Tensor) -> dict[str, Tensor | Mean]:
        """What is asked of made faces whatever the critics say."""
        batch = ctx.batch
        terms: dict[str, Tensor | Mean] = {}
        if "identity" in ctx.wanted:
            terms["identity"] = self._identity_distance(made_BCHW, batch.faces_BCHW)
        if "tv" in ctx.wanted:
            terms["tv"] = total_variation(made_BCHW)
        if "pair" in ctx.wanted:
            mask_B = _paired(batch)
            terms["pair"] = absolute_error(made_BCHW, batch.partners[_PAIR], mask_B)
        if "pair_smooth" in ctx.wanted:
            mask_B = _paired(batch)
            terms["pair_smooth"] = smooth_error(made_BCHW, batch.partners[_PAIR], mask_B)
        return terms

    def _identity_distance(self, made_BCHW: Tensor, faces_BCHW: Tensor) -> Mean:
        network, betas, share = (
            self.identity,
            self.config.identity_betas,
            self.config.identity_embedding,
        )
        assert network is not None
        distance = masked_mean(made_BCHW.new_zeros(len(made_BCHW)))
        if betas:
            maps, targets = network.features(made_BCHW), network.features(faces_BCHW)
            distance = joined(distance, feature_distance(maps, targets, betas), 1.0)
        if share:
            apart = embedding_distance(network.embed(made_BCHW), network.embed(faces_BCHW))
            distance = Mean(sum=distance.sum + share * apart.sum, count=distance.count)
        return distance

    def predict(self, batch: FaceBatch) -> Prediction:
        """The faces with their target expression at their target intensity.

        With a partner `reference` they get the reference's expression, as Q reads it (transfer).
        """
        dims = self.config.code.dims_per_class
        if "reference" in batch.partners:
            class_BK = self.critics.one_hot(batch.partner_expression["reference"], batch.faces_BCHW)
            reference_BCHW = seen(self.config.view, batch.partners["reference"], None)
            features_BF = self.critic.reading(reference_BCHW, class_BK)
            code_BE = self.critic.judging.code(features_BF)
        else:
            intensity_B = batch.target_intensity_B
            if intensity_B is None:
                intensity_B = batch.faces_BCHW.new_ones(len(batch))
            magnitude_Bd = intensity_B.to(batch.faces_BCHW.dtype).unsqueeze(1).expand(-1, dims)
            code_BE = self._code(batch.target_expression_B, magnitude_Bd)
        made_BCHW = self.generator(batch.faces_BCHW, code_BE)
        return Prediction(images_BCHW=made_BCHW.clamp(-1, 1))


def _paired(batch: FaceBatch) -> Tensor:
    """Where the partner is the same subject: [B], bool."""
    return batch.partner_valid[_PAIR] & ~batch.synthetic_B


def _settings(section: object) -> dict[str, Schedule]:
    """The fields of a settings section by name, ramps whole."""
    return {item.name: getattr(section, item.name) for item in fields(section)}  # type: ignore[arg-type]


def _identity_network(config: ExprganConfig, info: DatasetInfo) -> FrozenIdentity | None:
    if "identity" not in wanted(_settings(config.weights)):
        return None
    network = load_identity(
        config.identity_network, info, shape=config.identity_shape, width=config.identity_width
    )
    betas = config.identity_betas
    count = len(network.features(torch.zeros(1, info.channels, info.image_size, info.image_size)))
    if betas and len(betas) != count:
        raise ValueError(
            f"system.identity_betas has {len(betas)} numbers; the identity network has {count} "
            "feature maps (none at all leaves the maps out)"
        )
    return network


def _reading_terms(config: ExprganConfig) -> frozenset[str]:
    """The terms that need the critic's own reading of classes, of those that are wanted."""
    return wanted(_settings(config.weights)).intersection(("critic_class", "edit_class"))


def build(config: ExprganConfig, info: DatasetInfo) -> Exprgan:
    """The system for these data; ValueError for settings that do not go together."""
    reads = _reading_terms(config)
    if reads and config.network.critic_condition == "concatenate":
        raise ValueError(
            f"system.weights.{min(reads)} needs system.network.critic_condition project: a critic "
            "that is given the class cannot read it"
        )
    paired = wanted(_settings(config.weights)) & losses.PAIRED
    if paired and not config.edit_faces:
        raise ValueError(f"system.weights.{min(paired)} needs system.edit_faces true")
    return Exprgan(config, info)


def data_needs(config: ExprganConfig) -> DataNeeds:
    """Faces with their class, and another class to edit to or to mistake them for.

    Where pairs are compared it is the class of another face of the subject.
    """
    plays = wanted(_settings(config.weights))
    if plays & losses.PAIRED:
        return DataNeeds(partner=_PAIR, target="partner", fields=("intensity",))
    uses_target = config.edit_faces or "critic_mismatch" in plays
    return DataNeeds(target="other_expression" if uses_target else "own")

"""FERSNet: one network that recognises and edits expressions, against a conditional critic.

Source: Zhao, Liu, Xiao, Lun, Lam, ICPR 2020 (arXiv 2007.04514) and the authors' release. Shapes:
B faces, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from torch import Tensor, nn
from torch.func import functional_call

from trainer.config import wanted
from trainer.losses.adversarial import least_squares
from trainer.losses.classification import class_weights, classification
from trainer.losses.reconstruction import absolute_error
from trainer.nets.blocks import PatchCritic
from trainer.nets.convflu import gates_of, recorded_openings
from trainer.nets.identity_source import FrozenIdentity, load_identity
from trainer.nets.norm import batch_norms, set_statistics_updates
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
from trainer.systems.fersnet import losses
from trainer.systems.fersnet.config import FersnetConfig
from trainer.systems.fersnet.figure import FigureNetwork
from trainer.systems.fersnet.losses import EDITING, JUDGING, RULE
from trainer.systems.fersnet.nets import Encoded, Network
from trainer.systems.fersnet.release import ReleaseNetwork
from trainer.systems.fersnet.views import varied


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draft:
    """What a step computes once: the features of its faces and, where it edits, the edited faces.

    The network's turn goes backward through them, the critic's turns see them detached.
    """

    encoded: Encoded
    target_BK: Tensor
    images_BCHW: Tensor | None


class Fersnet(System):
    """See the module. Faces are edited by every `edit_every`-th sample of a rank's batch."""

    def __init__(self, config: FersnetConfig, info: DatasetInfo) -> None:
        self.config, self.info = config, info
        self.num_classes = len(info.classes)
        edits = wanted_editing(config)
        if config.sharing == "single" and edits:
            raise ValueError(
                "system.sharing is single, which has no synthesis branch; these weights must be 0: "
                + ", ".join(f"system.weights.{name}" for name in edits)
            )
        self.class_weight_K = class_weights(info, config.class_power)
        self.network: Network = (
            ReleaseNetwork(config, info)
            if config.form == "release"
            else FigureNetwork(config, info)
        )
        self.critic = PatchCritic(info.channels, self.num_classes, config.network.critic_channels)
        self.identity: FrozenIdentity | None = None
        if "identity" in edits:
            self.identity = load_identity(
                config.identity_network,
                info,
                shape=config.identity_shape,
                width=config.identity_width,
            )

    def players(self) -> tuple[Player, ...]:
        return (
            Player(
                name="network",
                module=self.network,
                optimizer=self.config.optimizer,
                ema_halflife_images=self.config.ema_halflife_images,
            ),
            Player(name="critic", module=self.critic, optimizer=self.config.critic_optimizer),
        )

    def frozen(self) -> Mapping[str, nn.Module]:
        return {} if self.identity is None else {"identity": self.identity}

    def stages(self) -> tuple[Stage, ...]:
        joint = Stage(
            name="joint",
            images=self.config.images,
            turns=(
                Turn(
                    player="critic",
                    terms=("critic", "mismatch"),
                    loss=self._judge,
                    every=self.config.critic_every,
                    repeats=self.config.critic_turns,
                ),
                Turn(
                    player="network",
                    terms=("classification", *sorted(EDITING)),
                    loss=self._learn,
                ),
            ),
            prepare=self._draft,
            prepares_for="network",
        )
        if not self.config.augmented_images:
            return (joint,)
        needs = replace(data_needs(self.config), synthetic_share=self.config.synthetic_share)
        augmented = replace(
            joint, name="augmented", images=self.config.augmented_images, data=needs
        )
        return joint, augmented

    def gates(self) -> Mapping[str, Tensor]:
        return {name: gate.mean_opening for name, gate in gates_of(self.network.exchanges).items()}

    def predict(self, batch: FaceBatch) -> Prediction:
        """Logits, the faces with their target expressions, and the gates' openings as maps."""
        with recorded_openings(self.network.exchanges) as openings:
            encoded = self.network.encode(batch.faces_BCHW)
        images = None
        if self.config.sharing != "single":
            target_BK = losses.one_hot(batch.target_expression_B, self.num_classes)
            images = self.network.decode(encoded, target_BK, None).clamp(-1, 1)
        return Prediction(
            logits_BK=self.network.classify(encoded), images_BCHW=images, maps=dict(openings)
        )

    def _thinned(self, context: StepContext) -> StepContext:
        """The faces of the batch that are edited."""
        step = self.config.edit_every
        if step == 1:
            return context
        return replace(context, batch=context.batch.map(lambda tensor: tensor[::step]))

    def _seen(self, context: StepContext, name: str, images_BCHW: Tensor) -> Tensor:
        """Faces as the critic and the classifier see them."""
        if not self.config.vary_views:
            return images_BCHW

        def noise(part: str, shape: tuple[int, ...], *, uniform: bool) -> Tensor:
            return context.noise(f"{name}/{part}", shape, uniform=uniform)

        return varied(images_BCHW, noise)

    def _noise(self, context: StepContext, name: str) -> tuple[Tensor, ...]:
        size = len(context.batch)
        return tuple(
            context.noise(f"{name}/{index}", (size, 1, side, side))
            for index, side in enumerate(self.network.noise_sides)
        )

    def _draft(self, context: StepContext) -> Draft:
        judged = context.wanted & JUDGING and not context.progress.step % self.config.critic_every
        edits = bool(context.wanted & EDITING or judged)
        encoded = self.network.encode(context.batch.faces_BCHW, decodes=edits)
        thin = self._thinned(context)
        target_BK = losses.one_hot(thin.batch.target_expression_B, self.num_classes)
        images = None
        if edits:
            own = encoded.every(self.config.edit_every)
            images = self.network.decode(own, target_BK, self._noise(thin, "edit"))
        return Draft(encoded=encoded, target_BK=target_BK, images_BCHW=images)

    def _judge(self, context: StepContext) -> Mapping[str, Mean]:
        thin = self._thinned(context)
        uniform_B = thin.noise("wrong class", (len(thin.batch), 1), uniform=True)[:, 0] / 2 + 0.5
        shift_B = 1 + (uniform_B * (self.num_classes - 1)).long()
        wrong_B = (thin.batch.partner_expression[RULE] + shift_B) % self.num_classes
        return losses.critic_terms(
            self.critic,
            thin.batch,
            self._seen(thin, "real", thin.batch.partners[RULE]),
            self._seen(thin, "fake", context.shared.images_BCHW.detach()),
            context.shared.target_BK,
            losses.one_hot(wrong_B, self.num_classes),
            context.wanted,
        )

    def _learn(self, context: StepContext) -> Mapping[str, Mean]:
        terms: dict[str, Mean] = {}
        if "classification" in context.wanted:
            terms["classification"] = classification(
                self.network.classify(context.shared.encoded, context.noise),
                context.batch.expression_B,
                self.config.label_smoothing,
                class_weight_K=self.class_weight_K,
            )
        if context.wanted & EDITING:
            terms |= self._edit(self._thinned(context))
        return terms

    def _edit(self, context: StepContext) -> Mapping[str, Mean]:
        batch = context.batch
        images, target_BK = context.shared.images_BCHW, context.shared.target_BK
        features = None if self.identity is None else self.identity.features
        terms = losses.paired_terms(
            images, batch, context.wanted, features, in_colour=self.config.pixel_in_colour
        )
        if "adversarial" in context.wanted:
            scores = self.critic(self._seen(context, "critic", images), target_BK)
            terms["adversarial"] = least_squares(scores, 1.0, ~batch.synthetic_B)
        if "expression" in context.wanted:
            logits_BK = self._read(self._seen(context, "reader", images))
            wish_B = batch.target_expression_B
            terms["expression"] = classification(logits_BK, wish_B, 0.0, ~batch.synthetic_B)
        if "keep" in context.wanted:
            terms["keep"] = absolute_error(images, batch.faces_BCHW, ~batch.synthetic_B)
        if "cycle" in context.wanted:
            source_BK = losses.one_hot(batch.expression_B, self.num_classes)
            norms = batch_norms(self.network)
            set_statistics_updates(norms, False)  # they are of the corpus' own faces
            again = self.network.encode(images)
            set_statistics_updates(norms, True)
            back = self.network.decode(again, source_BK, self._noise(context, "back"))
            terms["cycle"] = losses.cycle(back, batch)
        return terms

    def _read(self, images_BCHW: Tensor) -> Tensor:
        """Logits of edited faces; gradients reach the faces, not the network that reads them."""
        still = {name: value.detach() for name, value in self.network.named_parameters()}
        training = self.network.training
        self.network.eval()
        logits_BK = functional_call(self.network, still, (images_BCHW,))
        self.network.train(training)
        return logits_BK


def wanted_editing(config: FersnetConfig) -> list[str]:
    """The terms that need the synthesis branch and whose weight is ever above zero."""
    weights = {item.name: getattr(config.weights, item.name) for item in fields(config.weights)}
    return sorted(wanted(weights) & (EDITING | JUDGING))


def data_needs(config: FersnetConfig) -> DataNeeds:
    """Another face of the same subject with another expression, which is the target.

    Where there is none it is a face of another subject and another class: a target, but no pair.
    """
    return DataNeeds(
        partner=RULE,
        target="partner",
        balance=config.balance,
        share_multiple=config.edit_every if wanted_editing(config) else 1,
    )


def lacks(config: FersnetConfig) -> frozenset[str]:
    """The single task has nothing to edit with."""
    return frozenset({"synthesise"} if config.sharing == "single" else ())


def build(config: FersnetConfig, info: DatasetInfo) -> Fersnet:
    """The system; ValueError for settings that do not fit each other or the data."""
    return Fersnet(config, info)

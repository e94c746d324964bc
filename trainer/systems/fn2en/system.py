"""FN2EN: stage 1 brings an expression network's convolutions near a face network, stage 2 refines.

Source: Ding, Zhou, Chellappa, FG 2017 (arXiv 1609.06591). Shapes: B faces, C channels, H height,
W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from torch import nn

from trainer.losses.classification import class_weights, classification
from trainer.nets.identity_source import FrozenIdentity, load_identity
from trainer.schedules import ever_positive
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
from trainer.systems.fn2en.config import Fn2enConfig
from trainer.systems.fn2en.losses import response_distance
from trainer.systems.fn2en.nets import ExpressionNetwork, FaceClassifier, response_shape


class Fn2en(System):
    """One player; the face network is frozen, and only there where it is listened to."""

    def __init__(self, config: Fn2enConfig, info: DatasetInfo) -> None:
        self.config, self.info = config, info
        self.class_weight_K = class_weights(info, config.class_power)
        self.face: FrozenIdentity | None = None
        self.learner = self._face_learner() if config.learner == "face" else self._small_learner()

    def _face_learner(self) -> FaceClassifier:
        if listens(self.config):
            raise ValueError(
                "system.learner is face, which has no face network to follow; "
                "system.regularisation_images and system.refinement_weights.regularisation "
                "must be 0"
            )
        classes = len(self.info.classes)
        return FaceClassifier(self._load_face(), classes, self.config.network.dropout)

    def _small_learner(self) -> ExpressionNetwork:
        network, info = self.config.network, self.info
        channels, side = network.response_channels, 0
        if listens(self.config):
            self.face = self._load_face()
            channels, side = response_shape(self.face, info.image_size)
        learner = ExpressionNetwork(
            network, info.channels, info.image_size, channels, len(info.classes)
        )
        if side and side < learner.response_side:
            raise ValueError(
                f"the face network's last map has {side} x {side} places, fewer than the "
                f"expression network's {learner.response_side} x {learner.response_side}; "
                "system.network.channels needs more halvings"
            )
        return learner

    def _load_face(self) -> FrozenIdentity:
        config = self.config
        return load_identity(
            config.identity_network,
            self.info,
            shape=config.identity_shape,
            width=config.identity_width,
        )

    def face_network(self) -> tuple[nn.Module, int]:
        """The fine-tuned face network, which may in its turn teach an expression network."""
        if not isinstance(self.learner, FaceClassifier):
            raise ValueError("this run of fn2en trained an expression network, no face network")
        return self.learner.network, self.learner.image_size

    def players(self) -> tuple[Player, ...]:
        return (Player(name="learner", module=self.learner, optimizer=self.config.optimizer),)

    def frozen(self) -> Mapping[str, nn.Module]:
        return {} if self.face is None else {"face": self.face}

    def stages(self) -> tuple[Stage, ...]:
        config, terms = self.config, ("regularisation", "classification")
        overrides = config.refinement_weights
        regularisation = Stage(
            name="regularisation",
            images=config.regularisation_images,
            turns=(Turn(player="learner", terms=terms[:1], loss=self._learn),),
            trains={"learner": "convolutions.*"},
        )
        refinement = Stage(
            name="refinement",
            images=config.refinement_images,
            turns=(Turn(player="learner", terms=terms, loss=self._learn),),
            weights={item.name: getattr(overrides, item.name) for item in fields(overrides)},
        )
        return (regularisation, refinement) if regularisation.images else (refinement,)

    def _learn(self, ctx: StepContext) -> Mapping[str, Mean]:
        faces_BCHW, terms = ctx.batch.faces_BCHW, {}
        response = self.learner.respond(faces_BCHW)
        if "regularisation" in ctx.wanted:
            assert self.face is not None
            teacher = self.face.pooled(faces_BCHW)
            terms["regularisation"] = response_distance(response, teacher, self.config.power)
        if "classification" in ctx.wanted:
            _, logits_BK = self.learner.classify(response, ctx.noise)
            terms["classification"] = classification(
                logits_BK,
                ctx.batch.expression_B,
                self.config.label_smoothing,
                class_weight_K=self.class_weight_K,
            )
        return terms

    def predict(self, batch: FaceBatch) -> Prediction:
        """Logits, and the features that they are read from."""
        features_BD, logits_BK = self.learner.classify(self.learner.respond(batch.faces_BCHW))
        return Prediction(logits_BK=logits_BK, features_BD=features_BD)


def listens(config: Fn2enConfig) -> bool:
    """Whether any stage needs the face network as a teacher."""
    first = config.regularisation_images and ever_positive(config.weights.regularisation)
    return bool(first) or ever_positive(config.refinement_weights.regularisation)


def build(config: Fn2enConfig, info: DatasetInfo) -> Fn2en:
    """The system; ValueError for a face network that is missing or does not fit."""
    return Fn2en(config, info)


def data_needs(config: Fn2enConfig) -> DataNeeds:
    """Single faces; stage 1 does not read their labels."""
    return DataNeeds()

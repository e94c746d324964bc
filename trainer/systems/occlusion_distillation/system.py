"""A teacher of whole faces, students of half-hidden ones, a classifier on what both students see.

Source: Georgescu and Ionescu, ICPR 2020 (arXiv 2008.01003). Shapes: B faces, C channels, H height,
W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import wanted
from trainer.losses.adversarial import masked_mean
from trainer.nets.cover import covered, half_mask
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
from trainer.systems.occlusion_distillation import losses
from trainer.systems.occlusion_distillation.config import DistillationConfig, Weights
from trainer.systems.occlusion_distillation.nets import Joined, Recogniser
from trainer.systems.occlusion_distillation.teacher import take_over

SOFT_TERMS = ("label", "distillation")
TRIPLET_TERMS = ("triplet", "triplet_label")
_POSITIVE, _NEGATIVE = "same_class", "other_class"

Terms = Mapping[str, Tensor | Mean]


class OcclusionDistillation(System):
    """Players: teacher, student A (soft outputs), student B (triplets), the joined classifier."""

    def __init__(self, config: DistillationConfig, info: DatasetInfo) -> None:
        _check(config)
        self.config, self.info = config, info
        self.plays = _plays(config)
        self.teacher = Recogniser(config.network, info)
        if config.teacher:
            take_over(self.teacher, config.teacher, info)
        self.students: dict[str, Recogniser] = {}
        if self.plays.intersection(SOFT_TERMS):
            self.students["soft"] = Recogniser(config.network, info)
        if self.plays.intersection(TRIPLET_TERMS):
            reads = "triplet_label" in self.plays
            self.students["triplet"] = Recogniser(config.network, info, reads=reads)
        width = sum(student.num_features for student in self.students.values())
        self.joined = Joined(width, len(info.classes)) if self._joins else None

    @property
    def _joins(self) -> bool:
        learns = self.config.joined_images > 0 and "joined" in self.plays
        return learns and bool(self.students)

    def players(self) -> tuple[Player, ...]:
        optimizer = self.config.optimizer
        players = [Player(name="teacher", module=self.teacher, optimizer=optimizer)]
        for name, student in self.students.items():
            players.append(Player(name=name, module=student, optimizer=optimizer))
        if self.joined is not None:
            own = self.config.classifier_optimizer
            players.append(Player(name="joined", module=self.joined, optimizer=own))
        return tuple(players)

    def stages(self) -> tuple[Stage, ...]:
        config = self.config
        single = DataNeeds()
        own_images = 0 if config.teacher else config.teacher_images
        teacher = Turn(player="teacher", terms=("teacher",), loss=self._teacher_loss)
        soft = Turn(player="soft", terms=SOFT_TERMS, loss=self._soft_loss)
        triplet = Turn(player="triplet", terms=TRIPLET_TERMS, loss=self._triplet_loss)
        joined = Turn(player="joined", terms=("joined",), loss=self._joined_loss)
        return (
            Stage(name="teacher", images=own_images, turns=(teacher,), data=single),
            Stage(
                name="students",
                images=config.student_images,
                turns=((soft, triplet),),
                prepare=self._taught,
            ),
            Stage(name="joined", images=config.joined_images, turns=(joined,), data=single),
        )

    def _half(self, batch: FaceBatch) -> FaceBatch:
        """The batch, its partners too, with the half of each face hidden."""
        config = self.config.occlusion
        faces_BCHW = batch.faces_BCHW
        mask_HW = half_mask(config.hidden, faces_BCHW.shape[-1], config.border, faces_BCHW.device)
        partners = {
            rule: torch.where(mask_HW, config.tone, faces_BCHW)
            for rule, faces_BCHW in batch.partners.items()
        }
        return replace(covered(batch, mask_HW, config.tone), partners=partners)

    def _taught(self, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """What the teacher says of whole faces: its logits, its embeddings of the positives."""
        batch, none = ctx.batch, ctx.batch.faces_BCHW.new_empty(0)
        logits_BK = positive_BD = none
        if "distillation" in ctx.wanted:
            logits_BK = self.teacher.read(self.teacher(batch.faces_BCHW))
        if "triplet" in ctx.wanted:
            positive_BD = self.teacher(batch.partners[_POSITIVE])
        return logits_BK, positive_BD

    def _teacher_loss(self, ctx: StepContext) -> Terms:
        logits_BK = self.teacher.read(self.teacher(ctx.batch.faces_BCHW))
        return {"teacher": self._label(ctx.batch, logits_BK)}

    def _soft_loss(self, ctx: StepContext) -> Terms:
        batch = self._half(ctx.batch)
        student = self.students["soft"]
        logits_BK = student.read(student(batch.faces_BCHW))
        terms: dict[str, Tensor | Mean] = {}
        if "label" in ctx.wanted:
            terms["label"] = self._label(batch, logits_BK)
        if "distillation" in ctx.wanted:
            taught_BK = ctx.shared[0]
            terms["distillation"] = losses.soft_cross_entropy(
                logits_BK, taught_BK, self.config.temperature
            )
        return terms

    def _triplet_loss(self, ctx: StepContext) -> Terms:
        """Anchor: the student's; positive: the teacher's, of a whole face; negative: the student's.

        (abstract, section III). Faces without a partner of either kind do not count.
        """
        batch, student = self._half(ctx.batch), self.students["triplet"]
        anchor_BD = student(batch.faces_BCHW)
        terms: dict[str, Tensor | Mean] = {}
        if "triplet_label" in ctx.wanted:
            terms["triplet_label"] = self._label(batch, student.read(anchor_BD))
        if "triplet" in ctx.wanted:
            negative_BD = student(batch.partners[_NEGATIVE])
            valid_B = batch.partner_valid[_POSITIVE] & batch.partner_valid[_NEGATIVE]
            terms["triplet"] = losses.triplet(
                anchor_BD, ctx.shared[1], negative_BD, self.config.margin, valid_B
            )
        return terms

    def _joined_loss(self, ctx: StepContext) -> Terms:
        batch = self._half(ctx.batch)
        with torch.no_grad():
            embeddings = [student(batch.faces_BCHW) for student in self.students.values()]
        assert self.joined is not None
        return {"joined": self._label(batch, self.joined(embeddings))}

    def _label(self, batch: FaceBatch, logits_BK: Tensor) -> Mean:
        loss_B = functional.cross_entropy(logits_BK, batch.expression_B, reduction="none")
        return masked_mean(loss_B)

    def predict(self, batch: FaceBatch) -> Prediction:
        """What the joined classifier says; without it student A, B if it reads, or the teacher.

        Faces are half hidden first, unless `occlusion.faces` is all.
        """
        if self.config.occlusion.faces == "hidden":
            batch = self._half(replace(batch, partners={}))
        if self.joined is not None:
            embeddings = [student(batch.faces_BCHW) for student in self.students.values()]
            return Prediction(
                logits_BK=self.joined(embeddings), features_BD=torch.cat(embeddings, dim=1)
            )
        readers = [one for one in self.students.values() if one.classifier is not None]
        reader = readers[0] if readers else self.teacher
        features_BD = reader(batch.faces_BCHW)
        return Prediction(logits_BK=reader.read(features_BD), features_BD=features_BD)


def _plays(config: DistillationConfig) -> frozenset[str]:
    weights = {item.name: getattr(config.weights, item.name) for item in fields(Weights)}
    return wanted(weights)


def _check(config: DistillationConfig) -> None:
    """ValueError for students that would be asked without having learnt."""
    plays = sorted(_plays(config).intersection(SOFT_TERMS + TRIPLET_TERMS))
    if plays and not config.student_images:
        raise ValueError(
            "occlusion_distillation: system.student_images is 0, so these weights must be 0: "
            + ", ".join(f"system.weights.{term}" for term in plays)
        )


def build(config: DistillationConfig, info: DatasetInfo) -> OcclusionDistillation:
    """The system for these data; ValueError for a teacher that does not fit, or idle students."""
    return OcclusionDistillation(config, info)


def data_needs(config: DistillationConfig) -> DataNeeds:
    """Single faces; for triplets one more of the same class and one of another."""
    return DataNeeds(partner=(_POSITIVE, _NEGATIVE) if "triplet" in _plays(config) else "none")

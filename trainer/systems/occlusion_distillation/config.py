"""The settings of teacher-student training under half-face occlusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, names_run, weight
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """One architecture for teacher and students."""

    shape: Literal["vggface", "vggf", "plain"] = knob("vggface", doc="the trunk")
    width: float = knob(1.0, bounds=(0.01, 4.0), doc="factor on VGG's channels")
    widths: tuple[int, ...] = knob((16, 32, 48, 64), doc="channels of a plain trunk")
    embedding_features: int = knob(64, bounds=(4, 4096), doc="of a plain trunk's embedding")


@dataclass(frozen=True, kw_only=True, slots=True)
class OcclusionConfig:
    """What the students do not see. The border is that between the two halves."""

    hidden: Literal["upper", "lower"] = knob(
        "upper", doc="half that is hidden; a headset hides the upper one"
    )
    border: float = knob(0.5, bounds=(0.1, 0.9), doc="where the halves meet, share of the side")
    tone: float = knob(-1.0, bounds=(-1.0, 1.0), doc="what a hidden pixel shows")
    faces: Literal["all", "hidden"] = knob(
        "hidden", doc="predict hides the half itself (hidden), or takes faces as they come (all)"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A term of weight 0 is left out; without a student's terms that student is not built.

    The paper's mixture of labels and teacher, 1 - lambda and lambda, is `label` and `distillation`;
    a search that begins with such a mixture stays with one.
    """

    teacher: Schedule = weight(1.0, doc="cross-entropy of the teacher on whole faces")
    label: Schedule = weight(0.3, doc="student A: cross-entropy with the label; 1 - lambda")
    distillation: Schedule = weight(
        0.7,
        paper="lambda",
        bounds=(0.0, 1.0),
        search=(0.05, 0.95),
        complement="label",
        doc="student A: the teacher's soft output",
    )
    triplet: Schedule = weight(1.0, doc="student B: triplets with the teacher's embeddings")
    triplet_label: Schedule = weight(0.0, doc="student B: cross-entropy with the label (ours)")
    joined: Schedule = weight(1.0, doc="cross-entropy of the classifier on both embeddings")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """All settings of the system.

    `teacher` names a run of this system whose teacher is taken over; without it the first stage
    trains one. A stage of 0 images is left out: without the last one there is no joined classifier,
    and the students' cannot be left out while one of their terms counts.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    occlusion: OcclusionConfig = field(default_factory=OcclusionConfig)
    weights: Weights = field(default_factory=Weights)
    temperature: float = knob(4.0, bounds=(0.1, 100.0), paper="T", doc="softens both outputs")
    margin: float = knob(0.2, bounds=(0.0, 4.0), paper="alpha", doc="of the triplets")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    classifier_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    teacher: str = names_run(copied=True)
    teacher_images: int = knob(280_000, bounds=(0, 1e9), doc="of the teacher's stage")
    student_images: int = knob(280_000, bounds=(0, 1e9), doc="of the students' stage")
    joined_images: int = knob(56_000, bounds=(0, 1e9), doc="of the classifier's stage")

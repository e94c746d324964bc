"""What a face is: the canonical expressions, the rows of a lake, the batches of a trainer.

Shapes: B faces, C channels, H height, W width, L landmarks. This module imports neither Ray nor a
corpus, nor torch, which processes that only build batches can do without; it is the vocabulary that
every other room shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Expression(StrEnum):
    """The eight canonical expressions. Corpora map their own codes here, each by its own table."""

    ANGER = "anger"
    CONTEMPT = "contempt"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPINESS = "happiness"
    NEUTRAL = "neutral"
    SADNESS = "sadness"
    SURPRISE = "surprise"

    @classmethod
    def parse(cls, text: str) -> Expression:
        """The expression of that name, in any case; ValueError lists the valid ones."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            valid = ", ".join(cls)
            raise ValueError(f"unknown expression '{text}'; valid: {valid}") from None


ALIGNMENTS = ("detector", "corpus", "fallback", "centre", "box", "none")
"""How a face was placed: by MTCNN's own points; by landmarks that the corpus delivers; by the
weaker fallback detector; by a centre crop, for want of any point; cut out around the box that the
corpus delivers, and not aligned; or taken as delivered, which its owners aligned or nobody."""
PLACED = ("detector", "corpus", "fallback")
"""Those by which the ingest aligned a face."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFace:
    """One face as a corpus delivers it, before alignment. Its pixels are read later, on a worker.

    `name` is the path below the source with forward slashes (or a generated name); with the pixels'
    content it determines `sample_id`. `landmarks_L3` are x, y, confidence in pixels of the original
    image, L = 5 or 68. Faces of one `sitting` share subject, light, camera and place, those of one
    `sequence` are frames of a clip.

    `attributes` are numbers by name; one that a face lacks is not known of it. A trait of a corpus
    keeps that corpus' name and is 1 where it is there and 0 where not. The pose of the head has one
    name in all corpora: `yaw`, `pitch`, `roll`, in degrees, 0 when upright and facing the camera;
    positive when turned to the right of the picture, downwards, and clockwise.
    """

    name: str
    subject: str | None
    expression: Expression | None
    path: Path | None = None
    sitting: str | None = None
    sequence: str | None = None
    frame: int | None = None
    intensity: float | None = None
    split: str | None = None
    landmarks_L3: np.ndarray | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    votes: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A file that did not become a face, and why. Reasons are short, stable, greppable phrases."""

    name: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a corpus module found in a source: faces, files refused, counts it expected.

    `aligned`: nobody is to align the faces.
    """

    faces: tuple[SourceFace, ...]
    rejected: tuple[Rejection, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    aligned: bool = False


THUMBNAIL_PIXELS = 24


def face_schema(image_size: int, channels: int) -> pa.Schema:
    """The Arrow schema of a lake's rows; `image` is uint8 H x W x C, square and aligned.

    `source_height` and `source_width` are those of the picture as delivered; `crop_matrix` (2 x 3,
    row by row) leads from its pixels to those of `image`. `source_thumbnail` is the whole picture
    in grey, brought to `THUMBNAIL_PIXELS` square, by which the audit knows it again.
    """
    image = pa.fixed_shape_tensor(pa.uint8(), (image_size, image_size, channels))
    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("corpus", pa.string(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("subject", pa.string()),
            pa.field("sitting", pa.string()),
            pa.field("sequence", pa.string()),
            pa.field("frame", pa.int32()),
            pa.field("expression", pa.string()),
            pa.field("intensity", pa.float32()),
            pa.field("split", pa.string()),
            pa.field("attributes", pa.map_(pa.string(), pa.float32())),
            pa.field("votes", pa.map_(pa.string(), pa.float32())),
            pa.field("landmarks", pa.list_(pa.float32())),
            pa.field("alignment", pa.string(), nullable=False),
            pa.field("confidence", pa.float32(), nullable=False),
            pa.field("perceptual_hash", pa.uint64(), nullable=False),
            pa.field("source_height", pa.int32()),
            pa.field("source_width", pa.int32()),
            pa.field("crop_matrix", pa.list_(pa.float32())),
            pa.field("source_thumbnail", pa.binary(THUMBNAIL_PIXELS**2)),
            pa.field("image", image, nullable=False),
        ]
    )


def content_hash(content: bytes) -> hashlib.blake2b:
    """The hash of what a face was read from, which `sample_id` goes on with."""
    return hashlib.blake2b(content, digest_size=10)


def sample_id(name: str, content: hashlib.blake2b) -> str:
    """Twenty hex digits that name one face of one source: a hash of its bytes and its name."""
    digest = content.copy()
    digest.update(b"\0" + name.encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """What a system must know of the data to build its networks.

    `classes` are the expressions trained on, in the order of the class indices; `subjects` counts
    the training subjects; `attributes` are the names of the attribute columns of a batch;
    `class_images` counts the training faces of each class, and is empty where nobody counted.
    """

    classes: tuple[Expression, ...]
    image_size: int
    channels: int
    subjects: int
    attributes: tuple[str, ...] = ()
    landmarks: int = 0
    class_images: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FaceBatch:
    """One rank's share of one global step, on the device.

    `faces_BCHW` is float32 in [-1, 1]. `expression_B` and `target_expression_B` index the run's
    classes. `subject_B` indexes the training subjects (-1: unknown). `partners` holds one further
    face per sample for each partner rule that the system asked for, and `partner_expression` and
    `partner_valid` the class of it and whether a candidate existed (else the partner is the sample
    itself); with the fields intensity and attributes, `partner_intensity` and `partner_attributes`
    are NaN where nobody knows them. Yaw and roll turn round with a mirrored face. `key_B`
    (int64) names each sample's slot of the plan; noise is drawn from it. Optional fields are None
    where the system's DataNeeds did not ask for them; `target_intensity_B` in [0, 1] is given when
    faces are edited, and None means full intensity; `target_attributes_BA` likewise, and None means
    their own.
    """

    faces_BCHW: Tensor
    expression_B: Tensor
    target_expression_B: Tensor
    subject_B: Tensor
    row_B: Tensor
    key_B: Tensor
    synthetic_B: Tensor
    partners: Mapping[str, Tensor] = field(default_factory=dict)
    partner_expression: Mapping[str, Tensor] = field(default_factory=dict)
    partner_valid: Mapping[str, Tensor] = field(default_factory=dict)
    partner_intensity: Mapping[str, Tensor] = field(default_factory=dict)
    partner_attributes: Mapping[str, Tensor] = field(default_factory=dict)
    views: Mapping[str, Tensor] = field(default_factory=dict)
    intensity_B: Tensor | None = None
    target_intensity_B: Tensor | None = None
    landmarks_BL3: Tensor | None = None
    attributes_BA: Tensor | None = None
    target_attributes_BA: Tensor | None = None
    votes_BK: Tensor | None = None

    def __len__(self) -> int:
        return int(self.faces_BCHW.shape[0])

    def map(self, change: Callable[[Tensor], Tensor]) -> FaceBatch:
        """The batch with every tensor replaced by `change(tensor)`: moved, or sliced."""
        fields: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Mapping):
                fields[name] = {key: change(tensor) for key, tensor in value.items()}
            elif value is not None:
                fields[name] = change(value)
        return replace(self, **fields)

    def to(self, device: torch.device | str) -> FaceBatch:
        """The batch on `device`; copies from pinned memory do not block."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def slice(self, start: int, stop: int) -> FaceBatch:
        """Samples start to stop of the batch."""
        return self.map(lambda tensor: tensor[start:stop])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """What a system says of a batch; a field is None where the system lacks the capability.

    `logits_BK` over the run's classes, `images_BCHW` in [-1, 1] (the face with its
    target expression), `attributes_BA` logits, `intensity_B` in [0, 1].
    """

    logits_BK: Tensor | None = None
    images_BCHW: Tensor | None = None
    attributes_BA: Tensor | None = None
    intensity_B: Tensor | None = None
    features_BD: Tensor | None = None
    maps: Mapping[str, Tensor] = field(default_factory=dict)

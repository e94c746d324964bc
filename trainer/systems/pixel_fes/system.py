"""Pixel-based expression synthesis: sums over pairs of faces, then a closed form; no optimiser.

Source: Akram and Khan, ICPR 2020 (arXiv 2010.14397); the ridge of their masked regression code.
Shapes: B faces, C channels, H height, W width, K classes, D inputs of an output pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from data_service.schema import Expression
from trainer.config import knob
from trainer.system import (
    DataNeeds,
    DatasetInfo,
    FaceBatch,
    Player,
    Prediction,
    Stage,
    StepContext,
    Sums,
    System,
)
from trainer.systems.pixel_fes.nets import applied, normal_sums, ridge, unchanged, windows

_PAIR = "same_subject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """No term: nothing is trained by gradients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFesConfig:
    """All settings of the system.

    `source` neutral fits maps from neutral faces alone, as published; any fits each class' map from
    whatever other expression of the subject a pair shows, so that any face can be edited.
    """

    ridge: float = knob(
        0.4, bounds=(1e-6, 1e6), paper="lambda", log=True, doc="penalty of weights and bias"
    )
    receptive_field: Literal[1, 3, 5] = knob(
        1, doc="r: side of the window that an output pixel sees; 1 is the pixel-based case"
    )
    source: Literal["neutral", "any"] = knob("any", doc="which faces the maps start from")
    weights: Weights = field(default_factory=Weights)
    images: int = knob(20_480, bounds=(1, 1e9), doc="pairs of faces that are summed up")


class PixelFes(System):
    """No player; one stage whose sums are solved at its end."""

    def __init__(self, config: PixelFesConfig, info: DatasetInfo) -> None:
        if not info.subjects:
            raise ValueError(
                "pixel_fes: no training face has a known subject; it learns from pairs of faces of "
                "one subject"
            )
        self.config, self.info = config, info
        self.neutral = -1
        if config.source == "neutral":
            if Expression.NEUTRAL not in info.classes:
                raise ValueError(
                    "system.source neutral needs neutral faces; the classes are "
                    f"{', '.join(info.classes)}"
                )
            self.neutral = info.classes.index(Expression.NEUTRAL)
        self.weights_KCHWD = unchanged(
            len(info.classes), info.channels, info.image_size, config.receptive_field
        )

    def players(self) -> tuple[Player, ...]:
        return ()

    def stages(self) -> tuple[Stage, ...]:
        stage = Stage(
            name="pairs",
            images=self.config.images,
            turns=(),
            observe=self._observe,
            on_exit=self._solve,
        )
        return (stage,)

    def _observe(self, ctx: StepContext) -> Sums:
        batch = ctx.batch
        fits_B = batch.partner_valid[_PAIR] & ~batch.synthetic_B
        if self.neutral >= 0:
            fits_B = fits_B & (batch.expression_B == self.neutral)
        class_B = torch.where(fits_B, batch.partner_expression[_PAIR], -1)
        inputs_BCDHW = self._inputs(batch.faces_BCHW.double())
        targets_BCHW = _unit(batch.partners[_PAIR].double())
        return normal_sums(inputs_BCDHW, targets_BCHW, class_B, len(self.info.classes))

    def _solve(self, sums: Sums) -> None:
        """The maps of all classes; a class without a pair leaves faces as they are.

        ValueError where no class has a pair: nothing was learnt.
        """
        seen_K = sums["gram"][:, 0, 0, 0, -1, -1] > 0
        if not seen_K.any():
            source = "neutral face" if self.neutral >= 0 else "face"
            raise ValueError(
                f"pixel_fes: of no {source} among {self.config.images} was there another "
                "expression of the same subject, so there is nothing to fit"
            )
        solved = ridge(sums["gram"], sums["cross"], self.config.ridge).float()
        old = self.weights_KCHWD.to(solved.device)
        self.weights_KCHWD = torch.where(seen_K.view(-1, 1, 1, 1, 1), solved, old)

    def _inputs(self, faces_BCHW: Tensor) -> Tensor:
        return windows(_unit(faces_BCHW), self.config.receptive_field)

    def predict(self, batch: FaceBatch) -> Prediction:
        """The faces with their target expression."""
        weights = self.weights_KCHWD.to(batch.faces_BCHW.device)
        inputs_BCDHW = self._inputs(batch.faces_BCHW.float())
        made_BCHW = applied(weights, inputs_BCDHW, batch.target_expression_B)
        return Prediction(images_BCHW=(made_BCHW * 2 - 1).clamp(-1, 1))

    def state_dict(self) -> dict[str, Tensor]:
        return {"weights": self.weights_KCHWD}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave; ValueError for maps of another shape."""
        given = state["weights"]
        if given.shape != self.weights_KCHWD.shape:
            raise ValueError(
                f"maps of shape {tuple(given.shape)} do not fit {tuple(self.weights_KCHWD.shape)}: "
                "classes, channels, image size or receptive field differ"
            )
        self.weights_KCHWD = given.clone()


def _unit(faces_BCHW: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], on which the published penalty works."""
    return (faces_BCHW + 1) / 2


def build(config: PixelFesConfig, info: DatasetInfo) -> PixelFes:
    """The system for these data; ValueError where no subject, or no neutral source, is known."""
    return PixelFes(config, info)


def data_needs(config: PixelFesConfig) -> DataNeeds:
    """Pairs of faces of one subject."""
    return DataNeeds(partner=_PAIR, target="partner")

"""What both forms of FERSNet have in common: the interface, and the choice between them.

Shapes: B faces, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Encoded:
    """Faces after the encoders: what the classifier sees, and what the decoder starts from.

    `skips` go from the coarsest scale to the finest. Without a synthesis branch there are none.
    """

    faces_BCHW: Tensor
    recognition_BCHW: Tensor
    synthesis_BCHW: Tensor | None = None
    skips: tuple[Tensor, ...] = ()

    def every(self, step: int) -> Encoded:
        """Each `step`-th face, beginning with the first."""
        if step == 1:
            return self
        return Encoded(
            faces_BCHW=self.faces_BCHW[::step],
            recognition_BCHW=self.recognition_BCHW[::step],
            synthesis_BCHW=None if self.synthesis_BCHW is None else self.synthesis_BCHW[::step],
            skips=tuple(skip[::step] for skip in self.skips),
        )


class Network(nn.Module, ABC):
    """Encoders, units, classifier and decoder: all that FERSNet's one optimiser moves.

    Called, it recognises: faces [B, C, H, W] to logits [B, K].
    """

    exchanges: nn.ModuleDict
    noise_sides: tuple[int, ...]
    """The sides of the noise maps that the decoder takes, in order."""

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.classify(self.encode(faces_BCHW, decodes=False))

    @abstractmethod
    def encode(self, faces_BCHW: Tensor, *, decodes: bool = True) -> Encoded:
        """Both tasks' features; `decodes` False may leave out what only the decoder needs."""

    @abstractmethod
    def classify(self, encoded: Encoded) -> Tensor:
        """Logits [B, K]."""

    @abstractmethod
    def decode(
        self, encoded: Encoded, target_BK: Tensor, noise: tuple[Tensor, ...] | None
    ) -> Tensor:
        """The faces with the target expressions (one-hot), about in [-1, 1]; noise at will."""

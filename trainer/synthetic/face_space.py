"""Whether an image lies near the faces that were seen: distance from face space.

Source: Turk and Pentland, "Eigenfaces for recognition", Journal of Cognitive Neuroscience 3(1),
1991: what a face's projection onto the principal components of faces leaves of it.
Shapes: N, B faces, C channels, S side, P = C S S values, E components.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from data_service.synthesis.attempts import one_thread

COMPONENTS = 64
MOST_FACES = 512
"""More than so many need not say what the space is."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FaceSpace:
    """Components of some subjects' faces, and the largest distance of other subjects' real ones."""

    mean_P: Tensor
    basis_PE: Tensor
    most: float

    @classmethod
    @one_thread()
    def fit(cls, faces_NCHW: Tensor, others: Iterable[Tensor]) -> FaceSpace:
        """The space of the faces; no real face in the batches of `others` lies outside."""
        seen_NP = faces_NCHW.flatten(1)
        mean_P = seen_NP.mean(0)
        centred_NP = seen_NP - mean_P
        sizes, turns_NN = torch.linalg.eigh((centred_NP @ centred_NP.T).double())
        strong = sizes.argsort(descending=True)[:COMPONENTS]
        strong = strong[sizes[strong] > 1e-6 * sizes.max().clamp_min(1e-12)]
        turns_NE = turns_NN[:, strong] / sizes[strong].sqrt()
        basis_PE = centred_NP.T @ turns_NE.to(centred_NP.dtype)
        most = max(float(_distances(batch, mean_P, basis_PE).max()) for batch in others)
        return cls(mean_P=mean_P, basis_PE=basis_PE, most=most)

    def __call__(self, faces_BCHW: Tensor) -> Tensor:
        """Which of the images (boolean, on the CPU) lie no further off than real faces do."""
        return _distances(faces_BCHW, self.mean_P, self.basis_PE) <= self.most

    def state_dict(self) -> dict[str, Tensor]:
        """What decides."""
        most = torch.tensor(self.most, dtype=torch.float64)
        return {"mean": self.mean_P, "basis": self.basis_PE, "most": most}


def _distances(faces_BCHW: Tensor, mean_P: Tensor, basis_PE: Tensor) -> Tensor:
    """The root mean square of what the components do not explain."""
    centred_BP = faces_BCHW.flatten(1) - mean_P
    return (centred_BP - (centred_BP @ basis_PE) @ basis_PE.T).square().mean(1).sqrt()

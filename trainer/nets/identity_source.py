"""Frozen face-identity networks: random, from a trained `identity` run, or published weights.

Shapes: B faces, C channels, H height, W width, N faces, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_service.schema import DatasetInfo
from trainer.nets import lightcnn, vggface
from trainer.nets.weight_files import SUFFIXES, read_weights

Shape = Literal["lightcnn9", "lightcnn29v2", "vggface"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
PUBLISHED_IMAGE_SIZE = {"lightcnn9": 128, "lightcnn29v2": 128, "vggface": 224}
_RANDOM_SEED = 20170912
_NETWORKS = {
    "lightcnn9": lightcnn.LightCNN9,
    "lightcnn29v2": lightcnn.LightCNN29v2,
    "vggface": vggface.VggFace,
}


@runtime_checkable
class HasFaceNetwork(Protocol):
    """A system that trains a face network: the network, and the side of the faces that it sees."""

    def face_network(self) -> tuple[nn.Module, int]: ...


def build_identity(shape: str, *, image_size: int, width: float) -> nn.Module:
    """A fresh network of the shape, with `features` and `embed`; ValueError lists the shapes."""
    if shape not in _NETWORKS:
        raise ValueError(f"unknown identity shape '{shape}'; valid: {', '.join(SHAPES)}")
    return _NETWORKS[shape](image_size=image_size, width=width)


def num_embedding_features(shape: str, width: float) -> int:
    """The length D of the shape's embedding."""
    if shape == "vggface":
        return max(16, round(vggface.EMBEDDING_FEATURES * width))
    return lightcnn.EMBEDDING_FEATURES


class FrozenIdentity(nn.Module):
    """An identity network for losses: any face size, grey or RGB in [-1, 1]; it is never trained.

    Gradients pass through it to the faces.
    """

    def __init__(self, network: nn.Module, image_size: int) -> None:
        super().__init__()
        self.network, self.image_size = network, image_size
        self.eval().requires_grad_(False)

    def features(self, faces_BCHW: Tensor) -> tuple[Tensor, ...]:
        """The network's feature maps, shallow to deep."""
        sized_BCHW = resized(faces_BCHW, self.image_size)
        return tuple(self.network.features(sized_BCHW))  # type: ignore[operator]

    def pooled(self, faces_BCHW: Tensor) -> Tensor:
        """The network's last pooled map, before its dense layers."""
        return self.network.pooled(resized(faces_BCHW, self.image_size))  # type: ignore[operator]

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        """Unit vectors [B, D]; their cosine says how alike two subjects are."""
        sized_BCHW = resized(faces_BCHW, self.image_size)
        embedding_BD = self.network.embed(sized_BCHW)  # type: ignore[operator]
        return functional.normalize(embedding_BD, dim=1)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The same as `embed`."""
        return self.embed(faces_BCHW)


def resized(faces_BCHW: Tensor, side: int) -> Tensor:
    """Square faces brought to `side` pixels; shrunk without aliasing."""
    if faces_BCHW.shape[-1] == side:
        return faces_BCHW
    shrinks = faces_BCHW.shape[-1] > side
    return functional.interpolate(
        faces_BCHW, size=(side, side), mode="bilinear", align_corners=False, antialias=shrinks
    )


def load_identity(source: str, info: DatasetInfo, *, shape: str, width: float) -> FrozenIdentity:
    """The frozen identity network that `source` names.

    `random` is a seeded random network of the shape and width; a run's id or directory gives the
    `face_network` of its system (`identity`, `fn2en.finetuned`), in the run's own shape and width;
    a file gives published weights of the shape and width. ValueError, in one line, when nothing is
    named, found, or fits.
    """
    if not source:
        raise ValueError(
            "no identity network is given: train one with `mien train identity --lake DIR` and set "
            "system.identity_network to its run id, or to a file of published weights "
            f"({', '.join(SUFFIXES)})"
        )
    if source == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            network = build_identity(shape, image_size=info.image_size, width=width)
        return FrozenIdentity(network, info.image_size)
    if Path(source).is_file() or Path(source).suffix in SUFFIXES:
        return _from_file(Path(source), shape, width)
    return _from_run(source)


def _from_run(source: str) -> FrozenIdentity:
    from trainer.restore import load_system  # restore knows the systems, and these know this file

    loaded = load_system(source)
    if not isinstance(loaded.system, HasFaceNetwork):
        raise ValueError(
            f"system.identity_network: run {source} trained '{loaded.spec.name}', which has no "
            "face network; train one with `mien train identity --lake DIR`"
        )
    return FrozenIdentity(*loaded.system.face_network())


def _from_file(path: Path, shape: str, width: float) -> FrozenIdentity:
    image_size = PUBLISHED_IMAGE_SIZE.get(shape, 0)
    network = build_identity(shape, image_size=image_size, width=width)
    rename = vggface.names_from_published if shape == "vggface" else lightcnn.names_from_published
    state = rename(read_weights(path))
    if problem := _mismatch(network.state_dict(), state):
        raise ValueError(f"{path} does not hold {shape} of width {width:g}: {problem}")
    network.load_state_dict(state)
    return FrozenIdentity(network, image_size)


def _mismatch(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What first keeps `state` from being loaded; empty when it fits."""
    if missing := sorted(set(own) - set(state)):
        return f"{len(missing)} parameters are missing, first {missing[0]}"
    if unknown := sorted(set(state) - set(own)):
        return f"{len(unknown)} parameters are unknown, first {unknown[0]}"
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            return f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
    return ""


def verification_auc(embeddings_ND: np.ndarray, subjects_N: np.ndarray, seed: int = 0) -> float:
    """How surely two faces of one subject are closer than two of different ones (area under ROC).

    All pairs of the same subject against as many pairs of different subjects (at most 20,000 each,
    drawn with `seed`), by cosine. 0.5 is chance, 1 perfect; NaN without a pair of either kind.
    """
    unit_ND = embeddings_ND / np.maximum(
        np.linalg.norm(embeddings_ND, axis=1, keepdims=True), 1e-12
    )
    first_P, second_P = np.triu_indices(len(unit_ND), k=1)
    same_P = subjects_N[first_P] == subjects_N[second_P]
    rng = np.random.default_rng(seed)
    num_pairs = min(int(same_P.sum()), int((~same_P).sum()), 20_000)
    if not num_pairs:
        return math.nan
    from sklearn.metrics import roc_auc_score  # takes a second to import

    kinds = (np.flatnonzero(kind_P) for kind_P in (same_P, ~same_P))
    chosen_P = np.concatenate([rng.choice(kind, num_pairs, replace=False) for kind in kinds])
    cosine_P = (unit_ND[first_P[chosen_P]] * unit_ND[second_P[chosen_P]]).sum(axis=1)
    return float(roc_auc_score(same_P[chosen_P], cosine_P))

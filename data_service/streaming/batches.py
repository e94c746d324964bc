"""The last step on the way of a batch: one copy to the device, then the rest of the augmentation.

Shapes: B samples, S side of a face, C channels, L landmarks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from data_service.schema import FaceBatch
from data_service.streaming.packing import PackedBatch
from data_service.streaming.source import view_key
from data_service.transforms import Augmentation, AugmentConfig, to_float

_PLAIN = "plain"


def to_batch(
    packed: PackedBatch,
    device: torch.device | str,
    augment: AugmentConfig,
    *,
    grey: bool = False,
) -> FaceBatch:
    """The batch as systems see it, on `device`: faces float32 in [-1, 1], augmented by view.

    The first view is the batch's faces; partners and landmarks are moved and lit like it.
    """
    device = torch.device(device)
    tensors, key_B = _to_device(packed, device), packed.arrays()["key"]
    views = [name.removeprefix("view/") for name in tensors if name.startswith("view/")]
    changes = {
        view: None if view == _PLAIN else Augmentation(augment, view_key(key_B, view), device)
        for view in views
    }
    shown = {
        view: _view(change, to_float(tensors[f"view/{view}"], grey=grey))
        for view, change in changes.items()
    }
    first = changes[views[0]]
    partners = _by_rule(tensors, "faces")
    landmarks_BL3 = tensors.get("landmarks")
    if landmarks_BL3 is not None and first is not None:
        landmarks_BL3 = first.move(landmarks_BL3, shown[views[0]].shape[-1])
    return FaceBatch(
        faces_BCHW=shown[views[0]],
        expression_B=tensors["expression"],
        target_expression_B=tensors["target_expression"],
        subject_B=tensors["subject"],
        row_B=tensors["row"],
        key_B=tensors["key"],
        synthetic_B=tensors["synthetic"],
        partners={rule: _like(first, to_float(partners[rule], grey=grey)) for rule in partners},
        partner_expression=_by_rule(tensors, "expression"),
        partner_valid=_by_rule(tensors, "valid"),
        partner_intensity=_by_rule(tensors, "intensity"),
        partner_attributes=_by_rule(tensors, "attributes"),
        views=shown,
        intensity_B=tensors.get("intensity"),
        landmarks_BL3=landmarks_BL3,
        attributes_BA=tensors.get("attributes"),
        votes_BK=tensors.get("votes"),
    )


def _to_device(packed: PackedBatch, device: torch.device) -> dict[str, Tensor]:
    """All arrays on the device, as views of one block; unsigned keys become int64."""
    staged = torch.empty(len(packed.content), dtype=torch.uint8, pin_memory=device.type == "cuda")
    staged.numpy()[:] = packed.content
    block = staged.to(device, non_blocking=True)
    tensors = {}
    for name, (start, stop, dtype, shape) in packed.places().items():
        tensors[name] = block[start:stop].view(_TYPES[dtype]).view(shape)
    return tensors


_TYPES: Mapping[np.dtype, torch.dtype] = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.bool_): torch.bool,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.uint64): torch.int64,
    np.dtype(np.float32): torch.float32,
}


def _view(change: Augmentation | None, faces_BCSS: Tensor) -> Tensor:
    return faces_BCSS if change is None else change.cover(change.place_and_light(faces_BCSS))


def _like(first: Augmentation | None, faces_BCSS: Tensor) -> Tensor:
    return faces_BCSS if first is None else first.place_and_light(faces_BCSS)


def _by_rule(tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if name.startswith("partner/") and name.endswith(f"/{what}"):
            found[name.split("/")[1]] = tensor
    return found

"""From a packed batch of the stream to a FaceBatch on the device, augmentation included."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from data_service.crops import AugmentConfig
from data_service.schema import FaceBatch
from data_service.source import view_key
from data_service.transforms import Augmentation, to_float


def to_batch(
    arrays: Mapping[str, np.ndarray],
    augment: AugmentConfig,
    device: torch.device,
    *,
    grey: bool = False,
) -> FaceBatch:
    """The batch whose arrays `FaceSource.batch` names; its faces are those of the first view.

    Partners are placed and lit like their sample, and not covered.
    """
    key_B = arrays["key"]
    views = {
        name.removeprefix("view/"): _view(name.removeprefix("view/"), faces, key_B, augment, device, grey)
        for name, faces in arrays.items()
        if name.startswith("view/")
    }
    first = next(iter(views))
    own = Augmentation(augment, view_key(key_B, first), device)
    rules = [name.split("/")[1] for name in arrays if name.endswith("/faces")]
    partners = {
        rule: own.place_and_light(_float(arrays[f"partner/{rule}/faces"], device, grey))
        if first != "plain"
        else _float(arrays[f"partner/{rule}/faces"], device, grey)
        for rule in rules
    }
    landmarks_BL3 = _optional(arrays, "landmarks", device)
    if landmarks_BL3 is not None and first != "plain":
        landmarks_BL3 = own.move(landmarks_BL3, views[first].shape[-1])
    return FaceBatch(
        faces_BCHW=views[first],
        expression_B=_tensor(arrays["expression"], device),
        target_expression_B=_tensor(arrays["target_expression"], device),
        subject_B=_tensor(arrays["subject"], device),
        row_B=_tensor(arrays["row"], device),
        key_B=_tensor(key_B.view(np.int64), device),
        synthetic_B=_tensor(arrays["synthetic"], device),
        partners=partners,
        partner_expression={r: _tensor(arrays[f"partner/{r}/expression"], device) for r in rules},
        partner_valid={r: _tensor(arrays[f"partner/{r}/valid"], device) for r in rules},
        views=views,
        intensity_B=_optional(arrays, "intensity", device),
        landmarks_BL3=landmarks_BL3,
        attributes_BA=_optional(arrays, "attributes", device),
        votes_BK=_optional(arrays, "votes", device),
    )


def _view(
    view: str,
    faces_BSSC: np.ndarray,
    key_B: np.ndarray,
    augment: AugmentConfig,
    device: torch.device,
    grey: bool,
) -> Tensor:
    faces_BCSS = _float(faces_BSSC, device, grey)
    if view == "plain":
        return faces_BCSS
    augmentation = Augmentation(augment, view_key(key_B, view), device)
    return augmentation.cover(augmentation.place_and_light(faces_BCSS))


def _float(faces_BSSC: np.ndarray, device: torch.device, grey: bool) -> Tensor:
    return to_float(_tensor(faces_BSSC, device), grey=grey)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on the device; a copy, for the stream's memory is read-only and goes back."""
    return torch.tensor(array, device=device)


def _optional(arrays: Mapping[str, np.ndarray], name: str, device: torch.device) -> Tensor | None:
    return _tensor(arrays[name], device) if name in arrays else None

"""Occlusions that faces are tested under: each half, the eyes, the mouth, scattered blocks.

Places are shares of the aligned face (data_service/alignment/align.py: eyes at 0.40, mouth at 0.72
of its height), so that the crop a system sees is covered where the face is. Shapes: B faces, S
side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from data_service import seeds
from data_service.schema import FaceBatch
from trainer.nets.cover import covered

COVER = 0.0
"""Mid-grey of faces in [-1, 1]."""
BOXES = {
    "left": (0.0, 0.5, 0.0, 1.0),
    "right": (0.5, 1.0, 0.0, 1.0),
    "upper": (0.0, 1.0, 0.0, 0.56),
    "lower": (0.0, 1.0, 0.56, 1.0),
    "eyes": (0.2, 0.8, 0.28, 0.5),
    "mouth": (0.28, 0.72, 0.62, 0.84),
}
"""Left, right, top, bottom; left is the picture's. The nose tip parts the upper from the lower."""
BLOCKS, BLOCK_SHARE = 4, 0.25
OCCLUSIONS = (*BOXES, "blocks")


def occluded(batch: FaceBatch, kind: str, face_pixels: int) -> FaceBatch:
    """The batch with its faces covered; landmarks below the cover lose their confidence.

    `face_pixels` is the side of the lake's faces, of which the batch holds the middle. Blocks are
    drawn by the faces' keys. ValueError for an unknown kind.
    """
    if kind not in OCCLUSIONS:
        raise ValueError(f"unknown occlusion '{kind}'; valid: {', '.join(OCCLUSIONS)}")
    side = batch.faces_BCHW.shape[-1]
    if kind == "blocks":
        mask_BSS = _blocks(batch.key_B, side)
    else:
        place_S = (np.arange(side) + 0.5 + (face_pixels - side) / 2) / face_pixels
        left, right, top, bottom = BOXES[kind]
        rows_S, columns_S = _within(place_S, top, bottom), _within(place_S, left, right)
        mask_BSS = np.broadcast_to(rows_S[:, None] & columns_S, (len(batch), side, side))
    mask_BSS = torch.from_numpy(np.ascontiguousarray(mask_BSS)).to(batch.faces_BCHW.device)
    return covered(batch, mask_BSS, COVER)


def _within(place_S: np.ndarray, low: float, high: float) -> np.ndarray:
    # what is at the border of the aligned face is at the border of the crop
    return ((place_S >= low) | (low == 0.0)) & ((place_S < high) | (high == 1.0))


def _blocks(key_B: Tensor, side: int) -> np.ndarray:
    """`BLOCKS` squares per face, each a quarter of the side long, anywhere inside."""
    keys_B = key_B.cpu().numpy().astype(np.uint64)
    length = round(BLOCK_SHARE * side)
    mask_BSS = np.zeros((len(keys_B), side, side), bool)
    place_S = np.arange(side)
    for block in range(BLOCKS):
        inside = []
        for axis in ("top", "left"):
            start_B = seeds.uniforms(keys_B, f"occlusion {axis} {block}") * (side - length + 1)
            start_B1 = np.floor(start_B)[:, None]
            inside.append((place_S >= start_B1) & (place_S < start_B1 + length))
        mask_BSS |= inside[0][:, :, None] & inside[1][:, None, :]
    return mask_BSS

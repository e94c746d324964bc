"""What a trained system does with a photograph: give it another expression, or name the one it has.

Shapes: B faces, C channels, H height, W width, S side of the aligned face, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_service.align import Aligner
from data_service.decode import UnreadableImageError, decode, grey, read_bytes
from data_service.schema import Expression, FaceBatch, Prediction
from data_service.transforms import centre_crop
from trainer.job import load as load_job
from trainer.restore import LoadedSystem, load_system


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """What a system sees in one photograph. `alignment` tells how the face was found."""

    image: str
    expression: str
    confidence: float
    confidences: dict[str, float]
    alignment: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """One face with another expression, as written to `out`."""

    image: str
    to: str
    intensity: float | None
    out: str
    alignment: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def recognise(run: str, images: Sequence[Path]) -> tuple[Recognised, ...]:
    """The expression of the main face of each photograph.

    ValueError when the run's system does not recognise, or a file is no image.
    """
    loaded = _capable(run, "recognise")
    aligner = Aligner()
    found = []
    for path in images:
        face_1CHW, alignment = _aligned(loaded, aligner, path)
        logits_BK = _predict(loaded, face_1CHW, target=0).logits_BK
        assert logits_BK is not None
        shares = logits_BK[0].float().softmax(0).tolist()
        best = int(np.argmax(shares))
        found.append(
            Recognised(
                image=str(path),
                expression=str(loaded.info.classes[best]),
                confidence=shares[best],
                confidences=dict(zip(map(str, loaded.info.classes), shares, strict=True)),
                alignment=alignment,
            )
        )
    return tuple(found)


def edit(run: str, image: Path, to: str, *, out: Path, intensity: float | None = None) -> Edited:
    """Write the photograph's face, aligned, with the expression `to`, as a PNG.

    `intensity` in [0, 1] needs a system with that capability; without it the expression is full.
    ValueError for a system that cannot, a class it does not know, or a file that is no image.
    """
    loaded = _capable(run, "synthesise")
    target = _class_index(loaded, to)
    if intensity is not None:
        if "intensity" not in loaded.spec.capabilities:
            raise ValueError(f"{loaded.spec.name} has no intensity; leave --intensity away")
        if not 0 <= intensity <= 1:
            raise ValueError(f"intensity is {intensity}; valid: 0 to 1")
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out} cannot be written; valid: a name that ends in .png")
    face_1CHW, alignment = _aligned(loaded, Aligner(), image)
    edited_BCHW = _predict(loaded, face_1CHW, target=target, intensity=intensity).images_BCHW
    assert edited_BCHW is not None
    _write_png(edited_BCHW[0], out)
    return Edited(image=str(image), to=to, intensity=intensity, out=str(out), alignment=alignment)


def _capable(run: str, capability: str) -> LoadedSystem:
    loaded = load_system(run)
    if capability not in loaded.spec.capabilities:
        can = ", ".join(sorted(loaded.spec.capabilities))
        raise ValueError(f"{loaded.spec.name} does not {capability}; it can: {can}")
    return loaded


def _class_index(loaded: LoadedSystem, to: str) -> int:
    expression = Expression.parse(to)
    if expression not in loaded.info.classes:
        valid = ", ".join(loaded.info.classes)
        raise ValueError(f"the run was not trained on {expression}; valid: {valid}")
    return loaded.info.classes.index(expression)


def _aligned(loaded: LoadedSystem, aligner: Aligner, path: Path) -> tuple[Tensor, str]:
    """The main face at the size that the system sees, in [-1, 1], and how it was found."""
    try:
        image_HW3 = decode(read_bytes(path))
    except UnreadableImageError as error:
        raise ValueError(f"{path}: {error}") from None
    placed = aligner.place(image_HW3, side=load_job(loaded.directory).face_pixels)
    face_SSC = placed.image_SS3
    run, info = loaded.run, loaded.info
    if info.channels == 1 and not run.data.grey:
        face_SSC = grey(face_SSC)
    face_1CHW = torch.from_numpy(np.ascontiguousarray(face_SSC)).permute(2, 0, 1)[None]
    return centre_crop(face_1CHW, run.data.image_size, grey=run.data.grey), placed.alignment


def _predict(
    loaded: LoadedSystem, face_1CHW: Tensor, *, target: int, intensity: float | None = None
) -> Prediction:
    one = torch.zeros(1, dtype=torch.int64)
    batch = FaceBatch(
        faces_BCHW=face_1CHW,
        expression_B=one,
        target_expression_B=torch.full_like(one, target),
        subject_B=torch.full_like(one, -1),
        row_B=one,
        key_B=one,
        synthetic_B=torch.zeros(1, dtype=torch.bool),
        target_intensity_B=None if intensity is None else torch.tensor([intensity]),
    )
    with torch.inference_mode():
        return loaded.system.predict(batch)


def _write_png(image_CHW: Tensor, out: Path) -> None:
    """Atomically: a file of that name is either the old one or the new one, whole."""
    pixels_HWC = ((image_CHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    array = pixels_HWC.cpu().numpy()
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    with draft.open("wb") as file:
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "PNG")
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, out)

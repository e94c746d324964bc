"""What a trained system makes of a photograph: another expression, asked for or shown by another.

Shapes: C channels, S side of the crop that the system sees, H height, W width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from data_service.lakes.lake import Lake
from data_service.schema import Expression
from trainer import feed
from trainer import job as jobs
from trainer.inference.photographs import (
    Photograph,
    Viewer,
    ask,
    has_pose,
    pasted,
    read_expression,
)
from trainer.pictures import as_pixels, write_png
from trainer.restore import LoadedSystem, best_device, load_capable
from trainer.scorecard.judge import expression_judge

MOST_YAW = 90
"""Degrees, at which a face is in profile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """One photograph with another expression, as written to `out`.

    `to` is the expression asked for, or read in `source` where it was shown by another face. `yaw`
    is None where none was asked for.
    """

    image: str
    to: str
    intensity: float | None
    out: str
    alignment: str
    source: str | None = None
    yaw: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def edit(
    run: str,
    image: Path,
    to: str,
    *,
    out: Path,
    intensity: float | None = None,
    yaw: float | None = None,
    face_only: bool = False,
) -> Edited:
    """Write the photograph with the expression `to` on its main face, as a PNG.

    `face_only` writes the aligned face alone, as the system made it. `intensity` in [0, 1] needs a
    system with that capability; without it the expression is full. `yaw` needs a run with pose,
    which without it turns the head to the front. ValueError for a system that cannot, a class it
    does not know, or a file that is no image.
    """
    loaded = load_capable(run, "synthesise", best_device())
    target = class_index(loaded, to)
    check_intensity(loaded, intensity)
    check_yaw(loaded, yaw)
    check_png(out)
    photograph = Viewer(loaded).read(image)
    made_1CSS = ask(loaded, photograph, target=target, intensity=intensity, yaw=yaw)
    write_png(_picture(photograph, made_1CSS, face_only), out)
    return Edited(
        image=str(image),
        to=str(loaded.info.classes[target]),
        intensity=intensity,
        out=str(out),
        alignment=photograph.alignment,
        yaw=yaw,
    )


def transfer(
    run: str,
    source: Path,
    target: Path,
    *,
    out: Path,
    expression: str | None = None,
    face_only: bool = False,
) -> Edited:
    """Write the photograph `target` with the expression that the face in `source` shows, as a PNG.

    The class of the source's expression is `expression`, or what the system recognises, or, for a
    system that does not recognise, what a judge trained on the run's training subjects reads.
    ValueError as for `edit`.
    """
    loaded = load_capable(run, "transfer", best_device())
    given = None if expression is None else class_index(loaded, expression)
    check_png(out)
    viewer = Viewer(loaded)
    reference, photograph = viewer.read(source), viewer.read(target)
    shown = _shown(loaded, reference) if given is None else given
    made_1CSS = ask(loaded, photograph, target=shown, reference=reference, reference_class=shown)
    write_png(_picture(photograph, made_1CSS, face_only), out)
    return Edited(
        image=str(target),
        to=str(loaded.info.classes[shown]),
        intensity=None,
        out=str(out),
        alignment=photograph.alignment,
        source=str(source),
    )


def _shown(loaded: LoadedSystem, reference: Photograph) -> int:
    """The class of the expression in the reference."""
    if "recognise" in loaded.spec.capabilities:
        return int(read_expression(loaded, reference)[0].argmax())
    job = jobs.load(loaded.directory)
    lake = Lake.open(job.lake)
    train_rows = feed.split(lake, job.fold, loaded.info.classes).train_rows
    judge = expression_judge(lake, train_rows, job.run, loaded.info, seed=job.run.seed + 1)
    return int(judge(reference.face_1CSS)[0].argmax())


def _picture(photograph: Photograph, made_1CSS: Tensor, face_only: bool) -> np.ndarray:
    return as_pixels(made_1CSS)[0] if face_only else pasted(photograph, made_1CSS)


def class_index(loaded: LoadedSystem, to: str) -> int:
    """The index of the expression of that name; ValueError lists those the run was trained on."""
    expression = Expression.parse(to)
    if expression not in loaded.info.classes:
        valid = ", ".join(loaded.info.classes)
        raise ValueError(f"the run was not trained on {expression}; valid: {valid}")
    return loaded.info.classes.index(expression)


def check_intensity(loaded: LoadedSystem, intensity: float | None) -> None:
    """ValueError where the system does not scale intensity, or for one out of range."""
    if intensity is None:
        return
    loaded.require("intensity")
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity is {intensity}; valid: 0 to 1")


def check_yaw(loaded: LoadedSystem, yaw: float | None) -> None:
    """ValueError where the run was trained without pose, or for a yaw out of range."""
    if yaw is None:
        return
    if not has_pose(loaded):
        raise ValueError(f"run {loaded.directory.name} was trained without pose; leave --yaw away")
    if not -MOST_YAW <= yaw <= MOST_YAW:
        raise ValueError(f"yaw is {yaw:g}; valid: {-MOST_YAW} to {MOST_YAW} degrees")


def check_png(out: Path) -> None:
    """ValueError for a name that is not one of a PNG, or lies in no folder."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out} cannot be written; valid: a name that ends in .png")
    check_folder(out)


def check_folder(out: Path) -> None:
    """ValueError where the file's folder does not exist."""
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out} cannot be written: there is no folder {out.absolute().parent}")

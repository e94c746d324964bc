"""A face over all expressions and rising intensity, as one strip or as a moving picture.

Shapes: K expressions, L levels of intensity, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.inference.edit import check_folder, check_yaw, class_index
from trainer.inference.photographs import Photograph, Viewer, ask
from trainer.pictures import as_pixels, face_grid, write_png
from trainer.restore import LoadedSystem, best_device, load_capable

FORMATS = (".png", ".gif")
LEVELS = 6
FRAME_MILLISECONDS, REST_MILLISECONDS = 90, 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What was swept, as written to `out`; `levels` is empty for a system without intensity.

    `yaw` is None where none was asked for.
    """

    image: str
    expressions: tuple[str, ...]
    levels: tuple[float, ...]
    out: str
    alignment: str
    yaw: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def sweep(
    run: str,
    image: Path,
    *,
    out: Path,
    to: Sequence[str] = (),
    levels: int = LEVELS,
    yaw: float | None = None,
) -> Sweep:
    """Write the photograph's face with each expression of `to` (all), at rising intensity.

    A PNG has a row for each expression and a column for each of the `levels` from 0 to 1; in a GIF
    each expression comes and goes. A system without intensity shows full expressions only. `yaw`
    is as for `edit`. ValueError for a system that makes no faces, a class it does not know, or a
    wrong file.
    """
    loaded = load_capable(run, "synthesise", best_device())
    if out.suffix.lower() not in FORMATS:
        valid = ", ".join(FORMATS)
        raise ValueError(f"{out} cannot be written; valid: a name that ends in {valid}")
    if levels < 2:
        raise ValueError(f"{levels} levels of intensity; valid: 2 or more")
    check_folder(out)
    check_yaw(loaded, yaw)
    targets = [class_index(loaded, name) for name in to] or list(range(len(loaded.info.classes)))
    rises = "intensity" in loaded.spec.capabilities
    steps = np.linspace(0, 1, levels).tolist() if rises else []
    photograph = Viewer(loaded).read(image)
    source_HW3 = as_pixels(photograph.face_1CSS)[0]
    faces = [
        [_face(loaded, photograph, target, level, yaw) for level in steps or [None]]
        for target in targets
    ]
    names = [str(loaded.info.classes[target]) for target in targets]
    if out.suffix.lower() == ".gif":
        _write_gif(source_HW3, faces, out)
    else:
        write_png(_strip(source_HW3, faces, names, steps), out)
    return Sweep(
        image=str(image),
        expressions=tuple(names),
        levels=tuple(steps),
        out=str(out),
        alignment=photograph.alignment,
        yaw=yaw,
    )


def _face(
    loaded: LoadedSystem,
    photograph: Photograph,
    target: int,
    level: float | None,
    yaw: float | None,
) -> np.ndarray:
    return as_pixels(ask(loaded, photograph, target=target, intensity=level, yaw=yaw))[0]


def _strip(
    source_HW3: np.ndarray, faces: list[list[np.ndarray]], names: list[str], levels: list[float]
) -> np.ndarray:
    """Rows of expressions; without intensity one row of them, after the source."""
    if not levels:
        row = [source_HW3, *(line[0] for line in faces)]
        return face_grid(np.stack(row)[None], columns=["source", *names])
    grid_KLHW3 = np.stack([np.stack([source_HW3, *line]) for line in faces])
    return face_grid(
        grid_KLHW3, columns=["source", *(f"{level:.2f}" for level in levels)], rows=names
    )


def _write_gif(source_HW3: np.ndarray, faces: list[list[np.ndarray]], out: Path) -> None:
    """Each expression rises and falls, with a rest on its height; in place only when whole."""
    frames, milliseconds = [source_HW3], [REST_MILLISECONDS]
    for line in faces:
        there_and_back = [*line, *line[-2::-1], source_HW3]
        frames += there_and_back
        own = [FRAME_MILLISECONDS] * len(there_and_back)
        own[len(line) - 1] = own[-1] = REST_MILLISECONDS
        milliseconds += own
    grids = [face_grid(frame[None, None]) for frame in frames]
    pictures = [Image.fromarray(grid_HW3) for grid_HW3 in grids]
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    with draft.open("wb") as file:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=milliseconds,
            loop=0,
            disposal=1,
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, out)

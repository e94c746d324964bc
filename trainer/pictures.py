"""Pictures of a run, for MLflow and the gallery: grids of faces, a confusion matrix, curves.

Shapes: R rows, M columns, B faces, C channels, H height, W width, K classes. Pictures are uint8.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 2
FACE_PIXELS = 96
TEXT_PIXELS = 13
INK = (60, 60, 60)


def as_pixels(faces_BCHW: Tensor) -> np.ndarray:
    """Faces in [-1, 1] as uint8 (B, H, W, 3); one channel is shown in grey."""
    faces_BHWC = faces_BCHW.detach().float().cpu().clamp(-1, 1).permute(0, 2, 3, 1).numpy()
    pixels_BHWC = np.round((faces_BHWC + 1) * 127.5).astype(np.uint8)
    return np.repeat(pixels_BHWC, 3, axis=3) if pixels_BHWC.shape[3] == 1 else pixels_BHWC


def face_grid(
    faces_RMHW3: np.ndarray,
    *,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    face_pixels: int = FACE_PIXELS,
) -> np.ndarray:
    """A grid of faces on white, each at least `face_pixels` wide, with names above and beside it.

    Small faces are enlarged by a whole factor, so that their own pixels stay visible.
    """
    factor = max(1, round(face_pixels / faces_RMHW3.shape[3]))
    faces_RMHW3 = faces_RMHW3.repeat(factor, axis=2).repeat(factor, axis=3)
    num_rows, num_columns, height, width = faces_RMHW3.shape[:4]
    font = ImageFont.load_default(TEXT_PIXELS)
    left = int(max((font.getlength(name) for name in rows), default=-GAP)) + 3 * GAP
    lines = max((name.count("\n") + 1 for name in columns), default=0)
    top = lines * (TEXT_PIXELS + GAP) + 2 * GAP if columns else GAP
    size = (left + num_columns * (width + GAP), top + num_rows * (height + GAP))
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for row in range(num_rows):
        for column in range(num_columns):
            corner = (left + column * (width + GAP), top + row * (height + GAP))
            picture.paste(Image.fromarray(faces_RMHW3[row, column]), corner)
    for column, name in enumerate(columns):
        middle = left + column * (width + GAP) + width // 2
        for line, part in enumerate(name.split("\n")[::-1]):
            foot = top - 3 * GAP - line * (TEXT_PIXELS + GAP)
            pen.text((middle, foot), part, font=font, fill=INK, anchor="ms")
    for row, name in enumerate(rows):
        middle = top + row * (height + GAP) + height // 2
        pen.text((left - 2 * GAP, middle), name, font=font, fill=INK, anchor="rm")
    return np.asarray(picture)


def captioned_faces(
    faces_NHW3: np.ndarray, captions: Sequence[str], *, per_row: int, face_pixels: int = FACE_PIXELS
) -> np.ndarray:
    """Faces in rows of `per_row`, each with its own lines of text below it."""
    factor = max(1, round(face_pixels / faces_NHW3.shape[2]))
    faces_NHW3 = faces_NHW3.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = faces_NHW3.shape[1:3]
    font = ImageFont.load_default(TEXT_PIXELS - 2)
    lines = max(text.count("\n") + 1 for text in captions)
    cell = (width + 3 * GAP, height + lines * TEXT_PIXELS + 4 * GAP)
    num_rows = -(-len(captions) // per_row)
    size = (GAP + min(per_row, len(captions)) * cell[0], GAP + num_rows * cell[1])
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for index, text in enumerate(captions):
        left, top = GAP + index % per_row * cell[0], GAP + index // per_row * cell[1]
        picture.paste(Image.fromarray(faces_NHW3[index]), (left, top))
        for line, part in enumerate(text.split("\n")):
            foot = top + height + 2 * GAP + line * TEXT_PIXELS
            pen.text((left + width // 2, foot), part, font=font, fill=INK, anchor="mt")
    return np.asarray(picture)


def heat(faces_BHW3: np.ndarray, map_BHW: np.ndarray) -> np.ndarray:
    """Maps in [0, 1] in colour (dark is 0, yellow is 1) over the faces in grey."""
    from matplotlib import colormaps

    colour_BHW3 = colormaps["viridis"](map_BHW)[..., :3] * 255
    grey_BHW1 = faces_BHW3.mean(axis=3, keepdims=True)
    return np.round(0.65 * colour_BHW3 + 0.35 * grey_BHW1).astype(np.uint8)


def confusion_picture(
    confusion_KK: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str], *, title: str = ""
) -> np.ndarray:
    """The confusion matrix, truth by row: the share of each row as colour, the faces as numbers."""
    counts_KK = np.asarray(confusion_KK, dtype=float)
    share_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.62 * len(classes)
    figure = _figure(side + 0.5, side)
    axes = figure.add_subplot()
    axes.imshow(share_KK, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    for row, column in np.ndindex(*counts_KK.shape):
        share = share_KK[row, column]
        text = f"{share:.0%}\n{counts_KK[row, column]:.0f}" if counts_KK[row, column] else "·"
        ink = "white" if share > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    return _pixels(figure)


def write_png(image_HW3: np.ndarray, path: Path) -> None:
    """The picture as a PNG file, in place only when whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        Image.fromarray(image_HW3).save(file, format="PNG")
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def _figure(width: float, height: float) -> Figure:
    """A figure that needs no display and stays out of pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

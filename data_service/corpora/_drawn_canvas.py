"""Paints faces: soft-edged shapes given by functions of the face's coordinates, on whole batches.

B faces, C = 3 colours, H x W pixels of the picture or of a window of it. Only +, -, *, /, sqrt,
abs, min, max and floor touch pixels: IEEE makes those exact, so that a face comes out the same,
bit for bit, in any batch. Colour is painted flat (`albedo_BCHW`), light is
kept apart (`shade_BHW`) and multiplied in at the end. Small things are painted in windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from data_service.corpora._drawn_people import Columns
from data_service.corpora._drawn_shape import UNIT, picture_points


@dataclass(kw_only=True, slots=True)
class Canvas:
    """Pixels of a batch, or of one window of each picture, with the coordinates of every pixel.

    `form` holds the columns as [B, 1, 1] (colours [B, 3, 1, 1]); `pixel` is the size of a pixel.
    """

    albedo_BCHW: np.ndarray
    shade_BHW: np.ndarray
    light_BHW: np.ndarray
    u_BHW: np.ndarray
    v_BHW: np.ndarray
    form: Columns
    pixel: np.ndarray
    head_BHW: np.ndarray

    def lay(self, mask_BHW: np.ndarray, colour_BC: np.ndarray | np.floating) -> None:
        """Covers with a colour where the mask is 1."""
        change = colour_BC - self.albedo_BCHW
        change *= mask_BHW[:, None]
        self.albedo_BCHW += change

    def darken(self, mask_BHW: np.ndarray) -> None:
        """Takes light away: shade times (1 - mask)."""
        self.shade_BHW -= self.shade_BHW * mask_BHW

    def tint(self, mask_BHW: np.ndarray, gains: tuple[float, float, float]) -> None:
        """Shifts colours by mask * gains * grey level; gains that weigh zero keep that level."""
        red, green, blue = (self.albedo_BCHW[:, index] for index in range(3))
        level = red * np.float32(0.3) + green * np.float32(0.59) + blue * np.float32(0.11)
        level *= mask_BHW
        for index, gain in enumerate(gains):
            self.albedo_BCHW[:, index] += level * np.float32(gain)

    def edge(self, inside_BHW: np.ndarray, soft: float = 1.2) -> np.ndarray:
        """A mask from a signed distance in face units, `soft` pixels wide."""
        return ramp(inside_BHW, self.pixel * np.float32(soft))


def ramp(inside: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """0 to 1 across a border of the given width; `inside` is a signed distance."""
    mask = inside * (np.float32(1.0) / np.asarray(width, np.float32))
    mask += np.float32(0.5)
    return np.clip(mask, 0.0, 1.0, out=mask)


def blob(
    u: np.ndarray, v: np.ndarray, half_u: np.ndarray | float, half_v: np.ndarray | float
) -> np.ndarray:
    """A soft hill: 1 in the centre, 0 from the ellipse on."""
    far = (u / half_u) ** 2
    far += (v / half_v) ** 2
    hill = np.maximum(np.float32(1.0) - far, 0.0)
    hill *= hill
    return hill


def zigzag(phase: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1, from -1 to 1."""
    wave = phase - np.floor(phase)
    wave -= np.float32(0.5)
    np.abs(wave, out=wave)
    wave *= np.float32(4.0)
    wave -= np.float32(1.0)
    return wave


def stroke(
    canvas: Canvas, off: np.ndarray, half: np.ndarray | float, ends: np.ndarray
) -> np.ndarray:
    """A soft line where |off| < half, faded by `ends`."""
    return ramp(half - np.abs(off), np.maximum(canvas.pixel * 1.3, half * 1.6)) * ends


Window = tuple[str | float, str | float, float, float]
"""Centre u and v (numbers, or names of columns), width and height, in face units."""
Painter = Callable[[Canvas], None]


def in_window(
    canvas: Canvas,
    form: Columns,
    size: int,
    window: Window,
    feature: Painter,
    only: str | None = None,
) -> None:
    """Runs a painter on a window cut from every picture, and puts the result back.

    `only` names a column: pictures where it is 0 are left out, because nothing would be painted.
    """
    u, v, wide, high = window
    unit = UNIT * size * 1.12
    w, h = min(size, int(unit * wide) + 1), min(size, int(unit * high) + 1)
    centre = np.empty((len(canvas.shade_BHW), 1, 2), np.float32)
    for index, at in enumerate((u, v)):
        centre[:, 0, index] = form[at] if isinstance(at, str) else at
    corner = picture_points(form, centre, size)[:, 0] - np.array([w, h], np.float32) / 2.0
    corner = np.clip(np.floor(corner), 0, np.array([size - w, size - h])).astype(int)
    chosen = np.arange(len(corner)) if only is None else np.flatnonzero(form[only])
    if not len(chosen):
        return
    spots = [np.s_[i, ..., y : y + h, x : x + w] for i, (x, y) in zip(chosen, corner[chosen])]
    planes = {
        name: np.stack([getattr(canvas, name)[spot] for spot in spots])
        for name in ("albedo_BCHW", "shade_BHW", "light_BHW", "head_BHW", "u_BHW", "v_BHW")
    }
    part = replace(canvas, **planes)
    if only is not None:
        part.form = {name: value[chosen] for name, value in canvas.form.items()}
        part.pixel = canvas.pixel[chosen]
    feature(part)
    for index, spot in enumerate(spots):
        canvas.albedo_BCHW[spot] = part.albedo_BCHW[index]
        canvas.shade_BHW[spot] = part.shade_BHW[index]

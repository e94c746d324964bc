"""Paints faces: soft-edged shapes given by functions of the face's coordinates, on whole batches.

B faces, C = 3 colours, H x W pixels of the picture or h x w of a window of it. Only +, -, *, /, sqrt,
abs, min, max and floor touch pixels: IEEE makes those exact, so that a face comes out bit for bit the
same in any batch. Colour is painted flat (`albedo_BCHW`), light is kept apart (`shade_BHW`) and
multiplied in at the end. What is small (eyes, nose, mouth) is painted in windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_service.corpora._drawn_people import Columns
from data_service.corpora._drawn_shape import UNIT, picture_points


@dataclass(kw_only=True, slots=True)
class Canvas:
    """Pixels of a batch, or of one window of each picture, with the coordinates of every pixel.

    `form` holds the columns as [B, 1, 1] (colours [B, 3, 1, 1]); `pixel` is one pixel in face units.
    """

    albedo_BCHW: np.ndarray
    shade_BHW: np.ndarray
    light_BHW: np.ndarray
    u_BHW: np.ndarray
    v_BHW: np.ndarray
    form: Columns
    pixel: np.ndarray
    head_BHW: np.ndarray

    def lay(self, mask_BHW: np.ndarray, colour_BC: np.ndarray) -> None:
        """Covers with a colour where the mask is 1."""
        change = colour_BC - self.albedo_BCHW
        change *= mask_BHW[:, None]
        self.albedo_BCHW += change

    def darken(self, mask_BHW: np.ndarray) -> None:
        """Takes light away: shade times (1 - mask)."""
        self.shade_BHW -= self.shade_BHW * mask_BHW

    def edge(self, inside_BHW: np.ndarray, soft: float = 1.2) -> np.ndarray:
        """A mask from a signed distance in face units, `soft` pixels wide."""
        return ramp(inside_BHW, self.pixel * np.float32(soft))


def ramp(inside: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """0 to 1 across a border of the given width; `inside` is a signed distance."""
    mask = inside * (np.float32(1.0) / np.asarray(width, np.float32))
    mask += np.float32(0.5)
    return np.clip(mask, 0.0, 1.0, out=mask)


def blob(u: np.ndarray, v: np.ndarray, half_u: object, half_v: object) -> np.ndarray:
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


def stroke(canvas: Canvas, off: np.ndarray, half: object, ends: np.ndarray) -> np.ndarray:
    """A soft line where |off| < half, faded by `ends`."""
    return ramp(half - np.abs(off), np.maximum(canvas.pixel * 1.3, half * 1.6)) * ends


def in_window(canvas: Canvas, form: Columns, size: int, window: tuple, feature: object) -> None:
    """Runs a painter on a window cut from every picture, and puts the result back."""
    u, v, wide, high = window
    unit = UNIT * size * 1.12
    w, h = min(size, int(unit * wide) + 1), min(size, int(unit * high) + 1)
    centre = np.empty((len(canvas.shade_BHW), 1, 2), np.float32)
    for index, at in enumerate((u, v)):
        centre[:, 0, index] = form[at] if isinstance(at, str) else at
    corner = picture_points(form, centre, size)[:, 0] - np.array([w, h], np.float32) / 2.0
    corner = np.clip(np.floor(corner), 0, np.array([size - w, size - h])).astype(int)
    spots = [np.s_[i, ..., y : y + h, x : x + w] for i, (x, y) in enumerate(corner)]
    part = Canvas(
        albedo_BCHW=np.stack([canvas.albedo_BCHW[spot] for spot in spots]),
        shade_BHW=np.stack([canvas.shade_BHW[spot] for spot in spots]),
        light_BHW=canvas.light_BHW,
        u_BHW=np.stack([canvas.u_BHW[spot] for spot in spots]),
        v_BHW=np.stack([canvas.v_BHW[spot] for spot in spots]),
        form=canvas.form,
        pixel=canvas.pixel,
        head_BHW=np.stack([canvas.head_BHW[spot] for spot in spots]),
    )
    feature(part)
    for index, spot in enumerate(spots):
        canvas.albedo_BCHW[spot] = part.albedo_BCHW[index]
        canvas.shade_BHW[spot] = part.shade_BHW[index]

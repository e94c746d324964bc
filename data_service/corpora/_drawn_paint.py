"""Paints faces: backdrop, hair, head and light over the whole picture, features in windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_service.corpora._drawn_canvas import Canvas, blob, in_window, ramp, zigzag
from data_service.corpora._drawn_features import beard, eyes, mouth, nose, occluder
from data_service.corpora._drawn_people import Columns
from data_service.corpora._drawn_shape import (
    DEPTH,
    EYE_LINE,
    RADIUS,
    SKULL_UP,
    SKULL_Y,
    UNIT,
)


def paint(form: Columns, size: int) -> np.ndarray:
    """Pictures of the forms, float32 [B, 3, size, size] in about [0, 1], before noise."""
    tall = {
        name: value[:, None, None] if value.ndim == 1 else value[:, :, None, None]
        for name, value in form.items()
    }
    x_BHW, y_BHW = _plane(tall, size)
    canvas = Canvas(
        albedo_BCHW=np.empty((len(x_BHW), 3, size, size), np.float32),
        shade_BHW=np.ones_like(x_BHW),
        light_BHW=np.ones_like(x_BHW),
        head_BHW=np.zeros_like(x_BHW),
        u_BHW=_bend(tall, x_BHW),
        v_BHW=y_BHW - tall["lift"],
        form=tall,
        pixel=1.0 / (UNIT * size * tall["scale"]),
    )
    _backdrop(canvas, x_BHW, y_BHW)
    _hair_behind(canvas, x_BHW, y_BHW)
    _ears(*_band(canvas, x_BHW, y_BHW, 0.27, 0.79))
    _body(*_band(canvas, x_BHW, y_BHW, 0.5, 1.0))
    canvas.head_BHW = _head(canvas, x_BHW, y_BHW)
    in_window(canvas, form, size, _JAW, beard, only="beard")
    for window, feature in ((_EYES, eyes), (_NOSE, nose), (_MOUTH, mouth)):
        in_window(canvas, form, size, window, feature)
    _hair_front(*_band(canvas, x_BHW, y_BHW, 0.0, 0.78))
    in_window(canvas, form, size, _OCCLUDER, occluder, only="occluder")
    _light(canvas, x_BHW, y_BHW)
    return canvas.albedo_BCHW


def _plane(form: Columns, size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel: roll, scale and shift undone."""
    step = np.arange(size, dtype=np.float32) + np.float32(0.5)
    unit = 1.0 / (UNIT * size * form["scale"])
    cos, sin = np.cos(form["roll"]) * unit, np.sin(form["roll"]) * unit
    across = step[None, None, :] - size * (0.5 + form["shift_x"])
    down = step[None, :, None] - size * (EYE_LINE + form["shift_y"])
    return across * cos + down * sin, down * cos - across * sin


def _bend(form: Columns, x_BHW: np.ndarray) -> np.ndarray:
    """u from x: the root of the cylinder's equation that is stable where yaw is 0."""
    offset = x_BHW - DEPTH * form["sin"]
    root = np.sqrt(np.maximum(form["cos"] ** 2 - (2.0 / RADIUS) * form["sin"] * offset, 0.05))
    return 2.0 * offset / (form["cos"] + root)


def _band(
    canvas: Canvas, x: np.ndarray, y: np.ndarray, top: float, bottom: float
) -> tuple[Canvas, np.ndarray, np.ndarray]:
    """The rows from top to bottom (shares of the height) as a view, with their x and y."""
    size = x.shape[1]
    rows = np.s_[:, int(top * size) : int(np.ceil(bottom * size))]
    part = replace(
        canvas,
        albedo_BCHW=canvas.albedo_BCHW[:, *rows],
        shade_BHW=canvas.shade_BHW[rows],
        light_BHW=canvas.light_BHW[rows],
        head_BHW=canvas.head_BHW[rows],
        u_BHW=canvas.u_BHW[rows],
        v_BHW=canvas.v_BHW[rows],
    )
    return part, x[rows], y[rows]


def _backdrop(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    form = canvas.form
    angle, slope = form["backdrop_angle"], form["backdrop_slope"] * np.float32(0.25)
    tone = x * (np.cos(angle) * slope) + y * (np.sin(angle) * slope)
    names = ("backdrop_r", "backdrop_g", "backdrop_b")
    grey = (form[names[0]] + form[names[1]] + form[names[2]]) * np.float32(0.2)
    for index, name in enumerate(names):
        canvas.albedo_BCHW[:, index] = form[name] * np.float32(0.4) + grey + tone
    np.clip(canvas.albedo_BCHW, 0.03, 1.0, out=canvas.albedo_BCHW)


def _hair_behind(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    long = np.flatnonzero(canvas.form["long"])
    if not len(long):
        return
    form = {name: value[long] for name, value in canvas.form.items()}
    x, y = x[long], y[long]
    half = form["face_width"] + form["hair_volume"] * 1.1
    half = half + form["hair_wave"] * zigzag(y * 0.8 + form["parting"])
    up = (y - SKULL_Y) / (SKULL_UP + form["hair_volume"])
    cap = (1.0 - (x / half) ** 2 - up * up) * (half * 0.5)
    falling = np.minimum(half - np.abs(x), form["hair_length"] - 0.12 * x * x - y)
    inside = np.where(y < SKULL_Y, cap, falling)
    mask = ramp(inside, canvas.pixel[long] * np.float32(3.0))[:, None]
    behind = canvas.albedo_BCHW[long]
    canvas.albedo_BCHW[long] = behind + mask * (form["hair_colour"] * 0.72 - behind)


def _body(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    form = canvas.form
    neck = canvas.edge(np.minimum(form["face_width"] * 0.5 - np.abs(x), y - 1.5), 2.0)
    canvas.lay(neck, form["skin"] * 0.94)
    under = np.clip((form["chin"] + 1.3 - y) * 0.55, 0.0, 0.6) * neck
    canvas.darken(under)
    collar = y - 4.5 - 0.12 * x * x + 0.75 * np.maximum(1.1 - np.abs(x), 0.0) * -1.0
    canvas.lay(canvas.edge(collar, 2.0), form["cloth"])


def _ears(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    form = canvas.form
    ear_x = np.abs(x + 0.2 * form["sin"]) - form["face_width"]
    ear = (ear_x / (0.33 * form["ear"])) ** 2 + ((y - 0.42) / (0.62 * form["ear"])) ** 2
    bare = 1.0 - form["long"]
    canvas.lay(canvas.edge((1.0 - ear) * 0.16, 1.4) * bare, form["skin"] * 0.97)
    canvas.darken(blob(ear_x - 0.1, y - 0.42, 0.16, 0.4 * form["ear"]) * (0.35 * bare))


def _head(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lays skin and its light; returns the head's mask."""
    form = canvas.form
    down = y - SKULL_Y
    low = down > 0
    down *= np.where(low, 1.0 / (form["chin"] - SKULL_Y), 1.0 / SKULL_UP)
    across = x * (1.0 / form["face_width"])
    across *= 1.0 + form["taper"] * np.maximum(down, 0.0)
    inside = _ball(across, down, form["square"])
    mask = canvas.edge(inside * (form["face_width"] * 0.5), 1.4)
    canvas.lay(mask, form["skin"])
    facing = np.sqrt(np.maximum(1.02 - 0.92 * (across * across + down * down), 0.02))
    facing += across * form["light_x"]
    facing += down * form["light_y"]
    light = np.maximum(facing, 0.0, out=facing)
    length = 1.0 / np.sqrt(form["light_x"] ** 2 + form["light_y"] ** 2 + 1.0)
    light *= form["contrast"] * 1.2 * length
    light += 1.0 - form["contrast"]
    canvas.light_BHW = light
    canvas.shade_BHW += mask * (light - canvas.shade_BHW)
    return mask


def _ball(x: np.ndarray, y: np.ndarray, square: np.ndarray | float) -> np.ndarray:
    """1 in the centre, 0 on the border of a circle that `square` flattens, below 0 outside."""
    x2, y2 = x * x, y * y
    far = (x2 + y2) * (1.0 - square)
    x2 *= x2
    y2 *= y2
    x2 += y2
    x2 *= square
    far += x2
    return np.subtract(np.float32(1.0), far, out=far)


def _hair_front(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    form, u, v = canvas.form, canvas.u_BHW, canvas.v_BHW
    down = np.minimum(y - SKULL_Y, 0.0)
    down *= 1.0 / (SKULL_UP + form["hair_volume"] * 1.1)
    across = x * (1.0 / (form["face_width"] + form["hair_volume"]))
    cap = _ball(across, down, 0.35)
    u2 = u * u
    line = u2 * np.float32(0.045)
    line += form["hair_curve"] - 0.22 * form["fringe"]
    line *= u2
    line += u * (form["sweep"] + 0.66 * form["fringe"] * form["parting"])
    line += form["hairline"] + form["fringe"] * (1.0 - 0.495 * form["parting"] ** 2)
    line += form["hair_wave"] * zigzag(u * 1.1 + form["parting"])
    inside = np.minimum(line, 0.6 + form["long"] * 9.0) - v
    inside = np.minimum(cap * (form["face_width"] * 0.5), inside)
    thick = 1.0 - form["bald"]
    mask = canvas.edge(inside, 2.0) * thick
    strands = zigzag(u * (0.35 * v + 4.3)) * 0.08 + blob(x + 0.6, y + 2.4, 2.6, 0.9) * 0.4
    shadow = (canvas.edge(inside + 0.16, 6.0) * thick - mask) * canvas.head_BHW
    canvas.darken(np.maximum(shadow, 0.0) * 0.35)
    canvas.lay(mask, form["hair_colour"])
    canvas.shade_BHW += mask * (canvas.light_BHW * (1.0 + strands) - canvas.shade_BHW)


def _light(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    """Multiplies the light in: modelled shade, a cast shadow's border, exposure and colour."""
    form = canvas.form
    lit = x * np.cos(form["cut_angle"]) + y * np.sin(form["cut_angle"]) - form["cut_offset"]
    bars = zigzag(lit * form["blinds"]) / np.maximum(form["blinds"] * 4.0, 0.1)
    lit = ramp(np.where(form["blinds"] > 0, bars, lit), 0.3)
    shade = canvas.shade_BHW
    shade *= 1.0 - form["cut"] + form["cut"] * lit
    shade *= form["exposure"]
    canvas.albedo_BCHW *= shade[:, None]
    canvas.albedo_BCHW[:, 0] *= 1.0 + form["cast_red"]
    canvas.albedo_BCHW[:, 2] *= 1.0 + form["cast_blue"]


_JAW = (0.0, 2.3, 5.2, 3.4)
_EYES = (0.0, -0.45, 4.5, 3.1)
_NOSE = (0.0, 0.75, 3.9, 2.6)
_MOUTH = (0.0, 2.35, 3.3, 3.2)
_OCCLUDER = ("occluder_u", "occluder_v", 2.3, 2.3)
"""Windows: centre u and v, width and height in face units, with slack for roll and pose."""

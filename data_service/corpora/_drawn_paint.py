"""Paints faces: soft-edged shapes given by functions of the face's coordinates, on whole batches.

B faces, C = 3 colours, H x W pixels of the picture or h x w of a window of it. Only +, -, *, /, sqrt,
abs, min, max and floor touch pixels: IEEE makes those exact, so that a face comes out bit for bit the
same in any batch. Colour is painted flat (`albedo_BCHW`), light is kept apart (`shade_BHW`) and
multiplied in at the end. What is small (eyes, nose, mouth) is painted in windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_service.corpora._drawn_people import Columns
from data_service.corpora._drawn_shape import (
    DEPTH,
    EYE_LINE,
    RADIUS,
    SKULL_UP,
    SKULL_Y,
    UNIT,
    brow_height,
    mouth_curves,
    picture_points,
)


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
    head_BHW: np.ndarray | None = None

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
        u_BHW=_bend(tall, x_BHW),
        v_BHW=y_BHW - tall["lift"],
        form=tall,
        pixel=1.0 / (UNIT * size * tall["scale"]),
    )
    _backdrop(canvas, x_BHW, y_BHW)
    _hair_behind(canvas, x_BHW, y_BHW)
    _body(canvas, x_BHW, y_BHW)
    canvas.head_BHW = _head(canvas, x_BHW, y_BHW)
    for window, feature in ((_JAW, _beard), (_EYES, _eyes), (_NOSE, _nose), (_MOUTH, _mouth)):
        _in_window(canvas, form, size, window, feature)
    _hair_front(canvas, x_BHW, y_BHW, canvas.head_BHW)
    _in_window(canvas, form, size, _OCCLUDER, _occluder)
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
    form = canvas.form
    half = form["face_width"] + form["hair_volume"] * 1.1
    half = half + form["hair_wave"] * zigzag(y * 0.8 + form["parting"])
    up = (y - SKULL_Y) / (SKULL_UP + form["hair_volume"])
    cap = (1.0 - (x / half) ** 2 - up * up) * (half * 0.5)
    falling = np.minimum(half - np.abs(x), form["hair_length"] - 0.12 * x * x - y)
    inside = np.where(y < SKULL_Y, cap, falling)
    mask = canvas.edge(inside, 3.0) * form["long"]
    canvas.lay(mask, form["hair_colour"] * 0.72)


def _body(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    form = canvas.form
    neck = canvas.edge(np.minimum(form["face_width"] * 0.5 - np.abs(x), y - 1.5), 2.0)
    canvas.lay(neck, form["skin"] * 0.94)
    under = np.clip((form["chin"] + 1.3 - y) * 0.55, 0.0, 0.6) * neck
    canvas.darken(under)
    collar = y - 4.5 - 0.12 * x * x + 0.75 * np.maximum(1.1 - np.abs(x), 0.0) * -1.0
    canvas.lay(canvas.edge(collar, 2.0), form["cloth"])
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
    x2, y2 = across * across, down * down
    round_ = x2 + y2
    square = form["square"]
    inside = 1.0 - ((1.0 - square) * round_ + square * (x2 * x2 + y2 * y2))
    mask = canvas.edge(inside * (form["face_width"] * 0.5), 1.4)
    canvas.lay(mask, form["skin"])
    facing = np.sqrt(np.maximum(1.02 - round_ * 0.92, 0.02))
    length = 1.0 / np.sqrt(form["light_x"] ** 2 + form["light_y"] ** 2 + 1.0)
    lit = across * (form["light_x"] * length) + down * (form["light_y"] * length) + facing * length
    light = (1.0 - form["contrast"]) + form["contrast"] * 1.2 * np.maximum(lit, 0.0)
    canvas.light_BHW = light
    canvas.shade_BHW += mask * (light - canvas.shade_BHW)
    return mask


def _beard(canvas: Canvas) -> None:
    form, u, v = canvas.form, canvas.u_BHW, canvas.v_BHW
    cheek = (u / 1.75) ** 2 + ((v - 0.75) / 1.35) ** 2 - 1.0
    full = ramp(np.minimum(cheek, (v - 0.7) * 0.8), 0.35)
    chin = ramp(np.minimum(0.85 - np.abs(u), v - form["mouth_y"] - 0.3), 0.35)
    mask = chin + form["beard_full"] * (full - chin)
    mask *= form["beard"] * (0.92 + 0.08 * zigzag(u * 3.0 + v * 4.0))
    mask *= canvas.head_BHW
    canvas.lay(mask, form["hair_colour"] * 0.9)


def _hair_front(canvas: Canvas, x: np.ndarray, y: np.ndarray, head: np.ndarray) -> None:
    form, u, v = canvas.form, canvas.u_BHW, canvas.v_BHW
    down = np.minimum(y - SKULL_Y, 0.0) / (SKULL_UP + form["hair_volume"] * 1.1)
    across = x / (form["face_width"] + form["hair_volume"])
    x2, y2 = across * across, down * down
    cap = 1.0 - 0.65 * (x2 + y2) - 0.35 * (x2 * x2 + y2 * y2)
    u2 = u * u
    line = form["hairline"] + form["hair_curve"] * u2 + 0.045 * u2 * u2
    parted = u - form["parting"] * 1.5
    line += form["fringe"] * (1.0 - 0.22 * parted * parted) + form["sweep"] * u
    line += form["hair_wave"] * zigzag(u * 1.1 + form["parting"])
    inside = np.minimum(line, 0.6 + form["long"] * 9.0) - v
    inside = np.minimum(cap * (form["face_width"] * 0.5), inside)
    thick = 1.0 - form["bald"]
    mask = canvas.edge(inside, 2.0) * thick
    strands = zigzag(u * 3.1 + 0.35 * v * u) * 0.06 + zigzag(u * 7.3 - 0.2 * v) * 0.05
    strands += blob(x + 0.6, y + 2.4, 2.6, 0.9) * 0.4
    shadow = (canvas.edge(inside + 0.16, 6.0) * thick - mask) * head
    canvas.darken(np.maximum(shadow, 0.0) * 0.35)
    canvas.lay(mask, form["hair_colour"])
    canvas.shade_BHW += mask * (canvas.light_BHW * (1.0 + strands) - canvas.shade_BHW)


def _occluder(canvas: Canvas) -> None:
    """A stripe across part of the face: a strap, a plaster, the end of a scarf."""
    form = canvas.form
    cos, sin = np.cos(form["occluder_angle"]), np.sin(form["occluder_angle"])
    u, v = canvas.u_BHW - form["occluder_u"], canvas.v_BHW - form["occluder_v"]
    along, off = u * cos + v * sin, v * cos - u * sin
    along = np.maximum(np.abs(along) - 0.75, 0.0)
    inside = 0.2 - np.sqrt(along * along + off * off)
    canvas.lay(canvas.edge(inside) * form["occluder"], form["occluder_tone"][:, None])


def _light(canvas: Canvas, x: np.ndarray, y: np.ndarray) -> None:
    """Multiplies the light in: modelled shade, a cast shadow's border, exposure and colour."""
    form = canvas.form
    lit = x * np.cos(form["cut_angle"]) + y * np.sin(form["cut_angle"]) - form["cut_offset"]
    lit = ramp(lit, 0.5)
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


def _in_window(canvas: Canvas, form: Columns, size: int, window: tuple, feature: object) -> None:
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


def _stroke(canvas: Canvas, off: np.ndarray, half: object, ends: np.ndarray) -> np.ndarray:
    """A soft line where |off| < half, faded by `ends`."""
    return ramp(half - np.abs(off), np.maximum(canvas.pixel * 1.3, half * 1.6)) * ends


def _eyes(canvas: Canvas) -> None:
    form, u, v = canvas.form, canvas.u_BHW, canvas.v_BHW
    p = np.abs(u)
    q = p - 1.0
    _forehead(canvas, p, v)
    w = v - form["eye_tilt"] * q
    t = q / form["eye_width"]
    arch = 1.0 - t * t
    upper, lower = -form["eye_y_top"] * arch, form["eye_y_low"] * arch
    canvas.darken(blob(q + 0.1, v + 0.25, 0.95, 0.75) * 0.2)
    within = np.clip(arch * 2.5, 0.0, 1.0)
    lid = ramp(w - upper + form["crease"] + 0.05, 0.12) * ramp(upper - w, 0.06) * within
    canvas.darken(lid * (0.12 + 0.5 * form["makeup"]))
    crease = _stroke(canvas, w - upper + form["crease"] + 0.03, 0.022, within)
    canvas.darken(crease * 0.5)
    bag = _stroke(canvas, w - lower - 0.17 + 0.05 * form["m_cheek"], 0.03, within)
    canvas.darken(bag * (0.08 + 0.14 * form["age"] + 0.35 * form["m_cheek"]))
    crow = _stroke(canvas, zigzag((v + 0.1) * 3.2) * 0.1, 0.03, blob(q - 0.85, v - 0.05, 0.3, 0.4))
    canvas.darken(crow * (form["m_cheek"] * 0.3))
    opening = canvas.edge(np.minimum(w - upper, lower - w))
    _eyeball(canvas, opening, q, w, upper)
    line = _stroke(canvas, w - upper + 0.01, 0.035 + 0.03 * form["makeup"], within)
    canvas.lay(line * 0.92, form["hair_colour"] * 0.15 + 0.02)
    canvas.lay(_stroke(canvas, w - lower, 0.016, within) * 0.45, form["skin"] * 0.35)
    _brow(canvas, p, v)
    _glasses(canvas, p, q, v)


def _eyeball(
    canvas: Canvas, opening: np.ndarray, q: np.ndarray, w: np.ndarray, upper: object
) -> None:
    form = canvas.form
    outward = np.where(canvas.u_BHW < 0, -1.0, 1.0).astype(np.float32)
    dx, dy = q - form["gaze_x"] * outward, w - form["gaze_y"] + 0.04
    radius = np.sqrt(dx * dx + dy * dy)
    canvas.lay(opening, np.float32(0.93) * (0.9 + 0.1 * form["skin"]))
    shadow = np.clip(1.0 - (w - upper) * 6.0, 0.0, 1.0) * opening
    disc = canvas.edge(0.25 - radius) * opening
    glow = 0.55 + 1.3 * np.clip(radius * 3.2 - 0.15, 0.0, 0.55)
    canvas.lay(disc, form["iris"] * glow[:, None])
    canvas.lay(canvas.edge(0.035 - np.abs(radius - 0.235)) * opening * 0.7, form["iris"] * 0.25)
    canvas.lay(canvas.edge(0.11 - radius) * opening, np.float32(0.02))
    canvas.darken(shadow * 0.35)
    glint = canvas.edge(0.065 - np.sqrt((dx * outward + 0.09) ** 2 + (dy + 0.09) ** 2)) * opening
    canvas.lay(glint, np.float32(1.0))


def _forehead(canvas: Canvas, p: np.ndarray, v: np.ndarray) -> None:
    form = canvas.form
    above = v - form["brow_v1"] + 0.07 * p * p
    rows = _stroke(
        canvas, zigzag(above * 2.5 + 0.15) * 0.1, 0.03, blob(p, above + 0.72, 1.6, 0.66)
    )
    canvas.darken(rows * (form["m_furrow"] * 0.6))
    between = blob(p, v + 0.5, 1.0, 0.36)
    canvas.darken(
        _stroke(canvas, p - 0.15 - 0.1 * (v + 0.5), 0.035, between) * form["m_frown"] * 0.9
    )
    ridge = blob(p - 0.35, v + 0.42, 0.55, 0.32)
    canvas.darken(ridge * (np.maximum(form["m_frown"], form["m_wrinkle"] * 0.7) * 0.35))


def _brow(canvas: Canvas, p: np.ndarray, v: np.ndarray) -> None:
    form = canvas.form
    share = (p - form["brow_u0"]) / (form["brow_u2"] - form["brow_u0"])
    held = np.clip(share, -0.1, 1.1)
    half = form["brow_thick"] * (0.62 + 0.7 * held - 1.15 * held * held)
    ends = canvas.edge(np.minimum(share, 1.0 - share) * 1.2, 3.0)
    off = v - brow_height(form, held)
    off = off + form["m_brow_side"] * (canvas.u_BHW * form["side"] > 0)
    hairs = 0.86 + 0.14 * zigzag(p * 9.0 + v * 4.0)
    mask = canvas.edge(half - np.abs(off), 2.0) * ends * (form["brow_dark"] * hairs)
    canvas.lay(mask, form["hair_colour"] * 0.75)


def _glasses(canvas: Canvas, p: np.ndarray, q: np.ndarray, v: np.ndarray) -> None:
    form = canvas.form
    dx, dy = np.abs(q) / form["glasses_size"], np.abs(v - 0.1) / (form["glasses_size"] * 0.82)
    x2, y2 = dx * dx, dy * dy
    round_ = form["glasses_round"]
    level = np.sqrt(
        round_ * (x2 + y2) + (1.0 - round_) * np.sqrt(x2 * x2 * x2 * x2 + y2 * y2 * y2 * y2)
    )
    off = (level - 1.0) * form["glasses_size"]
    rim = canvas.edge(form["glasses_thick"] - np.abs(off), 1.3)
    bridge = canvas.edge(
        np.minimum(form["glasses_thick"] - np.abs(v + 0.02), 1.0 - form["glasses_size"] - p)
    )
    temple = canvas.edge(
        np.minimum(form["glasses_thick"] - np.abs(v + 0.1), p - 1.0 - form["glasses_size"])
    )
    lens = canvas.edge(-off)
    glare = canvas.edge(0.07 - np.abs(q * 0.8 + v + 0.15), 2.0) * lens
    canvas.lay((glare * 0.22 + lens * 0.05) * form["glasses"], np.float32(1.0))
    frame = np.maximum(np.maximum(rim, bridge), temple) * form["glasses"]
    canvas.lay(frame, form["cloth"] * 0.25 + form["glasses_dark"][:, None])


def _nose(canvas: Canvas) -> None:
    form, v = canvas.form, canvas.v_BHW
    y, wide = form["nose_y"], form["nose_width"]
    down = np.clip(v / y, 0.0, 1.15)
    u = canvas.u_BHW - form["nose_u"] * down
    p = np.abs(u)
    w = v - form["nose_v"] * down
    flesh = blob(p - 1.25, v - 1.15, 0.75, 0.62)
    canvas.lay(flesh * 0.16, form["skin"] * np.array([1.0, 0.62, 0.58], np.float32)[:, None, None])
    canvas.shade_BHW += flesh * (0.06 + 0.12 * form["m_cheek"])
    flank = blob(u, v - 0.55, 0.5, 1.0) * np.clip(u * 3.0, -1.0, 1.0)
    canvas.shade_BHW += flank * (0.16 * form["light_x"])
    canvas.darken(blob(p - 0.3, v - 0.55, 0.28, 0.75) * 0.12)
    canvas.shade_BHW += blob(u, w - y * 0.5, 0.17, 0.75) * 0.12 + blob(u, w - y, 0.24, 0.2) * 0.14
    canvas.darken(blob(u, w - y - 0.36, wide * 1.15, 0.2) * 0.3)
    wing = ((p - wide + 0.12) / 0.15) ** 2 + ((w - y - 0.04) / 0.22) ** 2
    ala = _stroke(canvas, (wing - 1.0) * 0.08, 0.024, ramp(p - wide + 0.1, 0.1))
    canvas.darken(ala * 0.55)
    hole = ((p - wide * 0.5) / 0.14) ** 2 + ((w - y - 0.17) / 0.07) ** 2
    canvas.darken(canvas.edge((1.0 - hole) * 0.06) * 0.72)
    creases = _stroke(canvas, zigzag(w * 2.7 - 0.8 * p) * 0.09, 0.035, blob(p, v - 0.28, 0.62, 0.5))
    canvas.darken(creases * (form["m_wrinkle"] * 0.6))
    _folds(canvas)


def _folds(canvas: Canvas) -> None:
    """From the nostril past the corner of the mouth; deeper with age, smiles and disgust."""
    form, v = canvas.form, canvas.v_BHW
    drop = v - form["nose_y"] + 0.05
    reach = form["nose_width"] + 0.08 + 0.72 * drop - 0.17 * drop * drop
    reach = reach + 0.3 * form["m_width"] * drop
    ends = np.clip(drop * 6.0, 0.0, 1.0) * np.clip((1.05 - drop) * 3.0, 0.0, 1.0)
    onesided = 1.0 + np.clip(form["m_lopsided"] * 2.5, 0.0, 1.0) * (
        (canvas.u_BHW * form["side"] > 0).astype(np.float32) - 1.0
    )
    depth = np.clip(0.03 + 0.1 * form["age"] + 0.34 * form["m_fold"] * onesided, 0.0, 0.5)
    canvas.darken(_stroke(canvas, np.abs(canvas.u_BHW) - reach, 0.055, ends) * depth)


def _mouth(canvas: Canvas) -> None:
    form, v = canvas.form, canvas.v_BHW
    u = canvas.u_BHW - form["mouth_u"]
    t = np.clip(u / form["mouth_half"], -1.4, 1.4)
    up_out, up_in, low_in, low_out = mouth_curves(form, t)
    _moustache(canvas, u, up_out)
    ends = ramp(1.02 - np.abs(t), 0.08)
    _folds(canvas)
    canvas.darken(blob(u, v - low_out - 0.14, form["mouth_half"] * 0.75, 0.2) * 0.3)
    canvas.darken(blob(np.abs(u) - form["mouth_half"] - 0.05, v - up_in, 0.16, 0.16) * 0.35)
    canvas.shade_BHW += blob(u, v - form["chin"] + 0.55, 0.6, 0.4) * 0.06
    lips = canvas.edge(np.minimum(v - up_out, low_out - v)) * ends
    canvas.lay(lips * 0.92, form["lip_colour"])
    upper = ramp(up_in - v, 0.08) * lips
    canvas.darken(upper * 0.2)
    canvas.shade_BHW += blob(u, v - low_in - form["lip_low"] * 0.5, 0.4, 0.1) * lips * 0.16
    hole = canvas.edge(np.minimum(v - up_in, low_in - v), 1.0) * ends
    canvas.lay(hole, np.array([0.20, 0.05, 0.06], np.float32)[:, None, None])
    _teeth(canvas, hole, t, u, up_in, low_in)
    seam = _stroke(canvas, v - np.where(v < 0.5 * (up_in + low_in), up_in, low_in), 0.03, ends)
    closed = np.clip(1.0 - (form["gap_up"] + form["gap_low"]) * 8.0, 0.25, 1.0)
    canvas.lay(seam * closed * 0.85, form["lip_colour"] * 0.28)


def _teeth(
    canvas: Canvas, hole: np.ndarray, t: np.ndarray, u: np.ndarray, up: object, low: object
) -> None:
    form, v = canvas.form, canvas.v_BHW
    tongue = blob(u, v - low - 0.02, form["mouth_half"] * 0.8, 0.42)
    canvas.lay(
        hole * np.clip(tongue * 1.8, 0.0, 1.0) * 0.85,
        np.array([0.72, 0.32, 0.33], np.float32)[:, None, None],
    )
    white = np.array([0.95, 0.93, 0.88], np.float32)[:, None, None]
    reach = 0.26 * (1.0 - 0.5 * t * t)
    top = canvas.edge(reach - (v - up)) * hole * np.clip(form["m_teeth"] * 1.6 + 0.1, 0.0, 1.0)
    canvas.lay(top, white)
    bottom = canvas.edge(reach * 0.9 - (low - v)) * hole * np.clip(form["m_teeth"] - 1.0, 0.0, 1.0)
    canvas.lay(bottom, white * 0.95)
    gaps = ramp(zigzag(u * 4.2) - 0.86, 0.2) * np.maximum(top, bottom)
    canvas.darken(gaps * 0.2)
    canvas.darken(hole * blob(t, v - up, 2.0, 0.12) * 0.35)


def _moustache(canvas: Canvas, u: np.ndarray, up_out: np.ndarray) -> None:
    form, v = canvas.form, canvas.v_BHW
    over = up_out - v
    inside = np.minimum(over, 0.34 - over - 0.12 * np.abs(u))
    mask = canvas.edge(np.minimum(inside, form["mouth_half"] * 1.1 - np.abs(u)), 4.0)
    hairs = 0.85 + 0.15 * zigzag(u * 6.0 + v)
    canvas.lay(mask * hairs * form["moustache"], form["hair_colour"] * 0.85)

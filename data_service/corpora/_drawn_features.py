"""Painters of features on a canvas: eyes, brows, glasses, nose, mouth, beard, and a stripe.

Coordinates are in half eye distances on the surface of the face: u to the right, v down; p is |u|,
q counts from the centre of an eye outwards, and t runs from -1 to 1 along an eye or the mouth.
"""

from __future__ import annotations

import numpy as np

from data_service.corpora._drawn_canvas import Canvas, blob, ramp, stroke, zigzag
from data_service.corpora._drawn_shape import brow_height, mouth_curves

RED, GREEN, BLUE = (0.25, -0.103, -0.13), (-0.17, 0.11, -0.126), (-0.15, 0.028, 0.259)
"""What blood does to skin: gains that leave its grey level (weights 0.3, 0.59, 0.11) alone."""


def beard(canvas: Canvas) -> None:
    form, u, v = canvas.form, canvas.u_BHW, canvas.v_BHW
    cheek = (u / 1.75) ** 2 + ((v - 0.75) / 1.35) ** 2 - 1.0
    full = ramp(np.minimum(cheek, (v - 0.7) * 0.8), 0.35)
    chin = ramp(np.minimum(0.85 - np.abs(u), v - form["mouth_y"] - 0.3), 0.35)
    mask = chin + form["beard_full"] * (full - chin)
    mask *= form["beard"] * (0.92 + 0.08 * zigzag(u * 3.0 + v * 4.0))
    mask *= canvas.head_BHW
    canvas.lay(mask, form["hair_colour"] * 0.9)


def eyes(canvas: Canvas) -> None:
    form, u, v = canvas.form, canvas.u_BHW, canvas.v_BHW
    p = np.abs(u)
    q = p - 1.0
    angry = blob(p, v + 0.85, 1.9, 1.0)
    canvas.tint(angry * form["m_rage"], RED)
    canvas.tint(angry * form["m_pale"], BLUE)
    canvas.tint(blob(q, v - 0.15, 0.8, 0.6) * form["m_weep"], BLUE)
    _forehead(canvas, p, v)
    w = v - form["eye_tilt"] * q
    t = q / form["eye_width"]
    arch = 1.0 - t * t
    upper, lower = -form["eye_y_top"] * arch, form["eye_y_low"] * arch
    canvas.darken(blob(q + 0.1, v + 0.25, 0.95, 0.75) * 0.2)
    within = np.clip(arch * 2.5, 0.0, 1.0)
    lid = ramp(w - upper + form["crease"] + 0.05, 0.12) * ramp(upper - w, 0.06) * within
    canvas.darken(lid * (0.12 + 0.5 * form["makeup"]))
    crease = stroke(canvas, w - upper + form["crease"] + 0.03, 0.022, within)
    canvas.darken(crease * 0.5)
    bag = stroke(canvas, w - lower - 0.17 + 0.05 * form["m_cheek"], 0.03, within)
    canvas.darken(bag * (0.08 + 0.14 * form["age"] + 0.18 * form["m_cheek"]))
    crow = stroke(canvas, zigzag((v + 0.1) * 3.2) * 0.1, 0.03, blob(q - 0.85, v - 0.05, 0.3, 0.4))
    canvas.darken(crow * (form["m_cheek"] * 0.14))
    opening = canvas.edge(np.minimum(w - upper, lower - w))
    _eyeball(canvas, opening, q, w, upper)
    line = stroke(canvas, w - upper + 0.01, 0.035 + 0.03 * form["makeup"], within)
    canvas.lay(line * 0.92, form["hair_colour"] * 0.15 + 0.02)
    canvas.lay(stroke(canvas, w - lower, 0.016, within) * 0.45, form["skin"] * 0.35)
    _brow(canvas, p, v)
    _glasses(canvas, p, q, v)


def _eyeball(
    canvas: Canvas, opening: np.ndarray, q: np.ndarray, w: np.ndarray, upper: np.ndarray
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
    rows = stroke(canvas, zigzag(above * 2.5 + 0.15) * 0.1, 0.03, blob(p, above + 0.72, 1.6, 0.66))
    canvas.darken(rows * (form["m_furrow"] * 0.28))
    between = blob(p, v + 0.5, 1.0, 0.36)
    canvas.darken(
        stroke(canvas, p - 0.15 - 0.1 * (v + 0.5), 0.035, between) * form["m_frown"] * 0.4
    )
    ridge = blob(p - 0.35, v + 0.42, 0.55, 0.32)
    canvas.darken(ridge * (np.maximum(form["m_frown"], form["m_wrinkle"] * 0.7) * 0.22))


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
    canvas.lay(mask, form["brow_colour"])


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


def nose(canvas: Canvas) -> None:
    form, v = canvas.form, canvas.v_BHW
    y, wide = form["nose_y"], form["nose_width"]
    down = np.clip(v / y, 0.0, 1.15)
    u = canvas.u_BHW - form["nose_u"] * down
    p = np.abs(u)
    w = v - form["nose_v"] * down
    cheek = blob(p - 1.2, v - 1.2, 1.0, 0.85)
    canvas.tint(cheek * np.maximum(form["m_rosy"], form["m_rage"] * 0.5), RED)
    canvas.tint(cheek * form["m_pale"] * 0.7, BLUE)
    canvas.tint(blob(u, v - 1.15, 0.75, 0.8) * form["m_weep"], RED)
    sick = np.maximum(cheek, blob(u, v - 1.2, 1.3, 1.0) * 0.7)
    canvas.tint(sick * form["m_queasy"], GREEN)
    flesh = blob(p - 1.25, v - 1.15, 0.75, 0.62)
    canvas.lay(flesh * 0.16, form["skin"] * np.array([1.0, 0.62, 0.58], np.float32)[:, None, None])
    canvas.shade_BHW += flesh * (0.06 + 0.12 * form["m_cheek"])
    flank = blob(u, v - 0.55, 0.5, 1.0) * np.clip(u * 3.0, -1.0, 1.0)
    canvas.shade_BHW += flank * (0.16 * form["light_x"])
    canvas.darken(blob(p - 0.3, v - 0.55, 0.28, 0.75) * 0.12)
    canvas.shade_BHW += blob(u, w - y * 0.5, 0.17, 0.75) * 0.12 + blob(u, w - y, 0.24, 0.2) * 0.14
    canvas.darken(blob(u, w - y - 0.36, wide * 1.15, 0.2) * 0.3)
    wing = ((p - wide + 0.12) / 0.15) ** 2 + ((w - y - 0.04) / 0.22) ** 2
    ala = stroke(canvas, (wing - 1.0) * 0.08, 0.024, ramp(p - wide + 0.1, 0.1))
    canvas.darken(ala * 0.55)
    hole = ((p - wide * 0.5) / 0.14) ** 2 + ((w - y - 0.17) / 0.07) ** 2
    canvas.darken(canvas.edge((1.0 - hole) * 0.06) * 0.72)
    creases = stroke(canvas, zigzag(w * 2.7 - 0.8 * p) * 0.09, 0.035, blob(p, v - 0.28, 0.62, 0.5))
    canvas.darken(creases * (form["m_wrinkle"] * 0.28))
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
    depth = np.clip(0.04 + 0.16 * form["age"] + 0.17 * form["m_fold"] * onesided, 0.0, 0.4)
    canvas.darken(stroke(canvas, np.abs(canvas.u_BHW) - reach, 0.055, ends) * depth)


def mouth(canvas: Canvas) -> None:
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
    seam = stroke(canvas, v - np.where(v < 0.5 * (up_in + low_in), up_in, low_in), 0.03, ends)
    closed = np.clip(1.0 - (form["gap_up"] + form["gap_low"]) * 8.0, 0.25, 1.0)
    canvas.lay(seam * closed * 0.7, form["lip_colour"] * 0.36)


def _teeth(
    canvas: Canvas, hole: np.ndarray, t: np.ndarray, u: np.ndarray, up: np.ndarray, low: np.ndarray
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


def occluder(canvas: Canvas) -> None:
    """A stripe across part of the face: a strap, a plaster, the end of a scarf."""
    form = canvas.form
    cos, sin = np.cos(form["occluder_angle"]), np.sin(form["occluder_angle"])
    u, v = canvas.u_BHW - form["occluder_u"], canvas.v_BHW - form["occluder_v"]
    along, off = u * cos + v * sin, v * cos - u * sin
    along = np.maximum(np.abs(along) - 0.75, 0.0)
    inside = 0.2 - np.sqrt(along * along + off * off)
    canvas.lay(canvas.edge(inside) * form["occluder"], form["occluder_tone"][:, None])

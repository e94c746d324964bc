"""Where everything in a drawn face is: curves of eyes, brows, mouth and jaw, and the 68 landmarks.

B faces, L landmarks. Two systems of coordinates, both in half eye distances: (u, v) on the surface
of the face, in which features are drawn, and (x, y) in the plane of the picture before roll, scale
and shift. Yaw bends u into x as a cylinder would:
x = u cos(yaw) + (DEPTH - u^2 / (2 RADIUS)) sin(yaw), which has a closed inverse.
"""

from __future__ import annotations

import numpy as np

from data_service.corpora._drawn_people import Columns

UNIT = 0.1135
"""Half an eye distance as a share of the picture's side: leaves a margin around the 128 framing."""
EYE_LINE = 0.47
DEPTH, RADIUS = 1.1, 2.6
SKULL_Y, SKULL_UP = 0.45, 3.5
NOSE_DEPTH = 0.45


def shape(person: Columns, sitting: Columns, moved: Columns) -> Columns:
    """All numbers that the painter and the landmarks need, from who, how and what is moved."""
    form = {**person, **sitting, **{f"m_{name}": value for name, value in moved.items()}}
    form["eye_y_top"] = np.maximum(0.27 * form["eye_height"] * (1.0 + moved["lid_up"]), 0.05)
    form["eye_y_low"] = 0.15 * form["eye_height"] * (1.0 - 0.7 * moved["lid_low"])
    form["eye_y_low"] = form["eye_y_low"] + 0.05 * np.maximum(moved["lid_up"], 0.0)
    for blood in ("rosy", "rage", "queasy", "pale", "weep"):
        form[f"m_{blood}"] = np.maximum(form[f"m_{blood}"], form[blood])
    _brows(form)
    _mouth(form)
    form["chin"] = form["chin"] + 0.75 * np.maximum(moved["jaw"], form["talk"] * 0.6)
    form["nose_y"] = form["nose_y"] - 0.06 * moved["wrinkle"]
    form["nose_width"] = form["nose_width"] * (1.0 + 0.14 * moved["wrinkle"] + 0.1 * moved["cheek"])
    form["sin"], form["cos"] = np.sin(form["yaw"]), np.cos(form["yaw"])
    form["nose_u"] = NOSE_DEPTH * form["sin"]
    form["nose_v"] = NOSE_DEPTH * np.sin(form["pitch"])
    form["lift"] = DEPTH * np.sin(form["pitch"])
    form["gaze_x"] = form["gaze_x"] - 0.12 * form["sin"]
    return {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in form.items()
    }


def _brows(form: Columns) -> None:
    base = form["brow_y"] + form["brow_rest"]
    slant = form["brow_slant"]
    form["brow_v0"] = base + 0.06 + slant - form["m_brow_in"]
    form["brow_v1"] = base - form["brow_arch"] - form["m_brow_mid"]
    form["brow_v2"] = base + 0.08 - slant - form["m_brow_out"]
    form["brow_u0"] = 0.38 - form["m_knit"]
    form["brow_u2"] = np.full_like(base, 1.66)


def _mouth(form: Columns) -> None:
    gap = np.maximum(form["m_open"], form["talk"])
    form["mouth_half"] = form["mouth_width"] * (1.0 + form["m_width"])
    lopsided = form["m_lopsided"] * form["side"]
    rest = form["m_corner"] + form["corner_rest"] - form["mouth_droop"]
    form["corner_even"] = rest + 0.5 * form["m_lopsided"]
    form["corner_odd"] = 0.5 * lopsided + form["asymmetry"]
    form["mouth_u"] = 0.14 * lopsided
    form["mouth_v"] = (
        form["mouth_y"] + 0.45 * form["corner_even"] - 0.35 * form["m_lip_raise"] + 0.1 * gap
    )
    form["gap_up"] = 0.42 * gap + 0.35 * form["m_lip_raise"] * (gap > 0)
    form["gap_low"] = 1.15 * gap + 0.3 * form["m_lip_drop"]
    thin = np.clip(1.0 - 0.6 * form["m_press"], 0.25, 1.15)
    form["lip_up"] = form["lip_upper"] * thin
    form["lip_low"] = form["lip_lower"] * thin + np.minimum(form["m_lip_drop"], 0.0) * -0.6


def picture_points(form: Columns, uv_BL2: np.ndarray, size: int) -> np.ndarray:
    """Points (u, v) of the face as pixels of the picture, float32 [B, L, 2]."""
    u_BL, v_BL = uv_BL2[..., 0], uv_BL2[..., 1]
    bend_BL = DEPTH - u_BL**2 / (2.0 * RADIUS)
    x_BL = u_BL * form["cos"][:, None] + bend_BL * form["sin"][:, None]
    return _place(form, x_BL, v_BL + form["lift"][:, None], size)


def _place(form: Columns, x_BL: np.ndarray, y_BL: np.ndarray, size: int) -> np.ndarray:
    unit_B1 = (UNIT * size * form["scale"])[:, None]
    cos_B1, sin_B1 = np.cos(form["roll"])[:, None], np.sin(form["roll"])[:, None]
    px_BL = (
        size * (0.5 + form["shift_x"])[:, None] - 0.5 + unit_B1 * (x_BL * cos_B1 - y_BL * sin_B1)
    )
    py_BL = (
        size * (EYE_LINE + form["shift_y"])[:, None]
        - 0.5
        + unit_B1 * (x_BL * sin_B1 + y_BL * cos_B1)
    )
    return np.stack([px_BL, py_BL], axis=-1).astype(np.float32)


def landmarks(form: Columns, size: int) -> np.ndarray:
    """The 68 points in iBUG order (Sagonas et al., 2013), pixels: [B, 68, 2]."""
    inner_B51 = np.concatenate(
        [_brow_points(form), _nose_points(form), _eye_points(form), _mouth_points(form)], axis=1
    )
    return np.concatenate([_jaw_points(form, size), picture_points(form, inner_B51, size)], axis=1)


def _jaw_points(form: Columns, size: int) -> np.ndarray:
    """Seventeen points of the outline, from the left, by bisection along rays from the skull."""
    angle_L = np.pi - np.linspace(0.0, np.pi, 17) + 0.0
    ray_x, ray_y = np.cos(angle_L)[None], np.sin(angle_L)[None]
    low = np.zeros((len(form["chin"]), 17))
    high = np.full_like(low, 5.0)
    for _ in range(24):
        middle = 0.5 * (low + high)
        inside = outline(form, middle * ray_x, SKULL_Y + middle * ray_y) < 1.0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return _place(form, low * ray_x, SKULL_Y + low * ray_y, size)


def outline(form: Columns, x_BL: np.ndarray, y_BL: np.ndarray) -> np.ndarray:
    """The head's implicit function below the eyes' height: below 1 inside, in (x, y); [B, L]."""
    down = (y_BL - SKULL_Y) / (form["chin"] - SKULL_Y)[:, None]
    across = x_BL / form["face_width"][:, None] * (1.0 + form["taper"][:, None] * down)
    x2, y2 = across**2, down**2
    square = form["square"][:, None]
    return (1 - square) * (x2 + y2) + square * (x2 * x2 + y2 * y2)


def brow_height(form: Columns, share: np.ndarray) -> np.ndarray:
    """The brow's v at a share of its length (0 inside, 1 outside), a parabola of three heights.

    Columns broadcast against `share`; the middle height stands at 0.6.
    """
    at0 = (share - 0.6) * (share - 1.0) / 0.6
    at1 = share * (share - 1.0) / -0.24
    at2 = share * (share - 0.6) / 0.4
    return form["brow_v0"] * at0 + form["brow_v1"] * at1 + form["brow_v2"] * at2


def _columns(form: Columns, *names: str) -> Columns:
    return {name: form[name][:, None] for name in names}


def _mirror(u_BL: np.ndarray, v_BL: np.ndarray, *, backwards: np.ndarray) -> np.ndarray:
    """Points of the image's left side (in `backwards` order) and of its right side: [B, 2L, 2]."""
    left = np.stack([-u_BL[:, backwards], v_BL[:, backwards]], axis=-1)
    return np.concatenate([left, np.stack([u_BL, v_BL], axis=-1)], axis=1)


def _brow_points(form: Columns) -> np.ndarray:
    share_L = np.linspace(0.04, 0.96, 5)[None]
    part = _columns(form, "brow_v0", "brow_v1", "brow_v2", "brow_u0", "brow_u2")
    u_BL = part["brow_u0"] + share_L * (part["brow_u2"] - part["brow_u0"])
    points = _mirror(u_BL, brow_height(part, share_L), backwards=np.arange(4, -1, -1))
    on_side = points[..., 0] * form["side"][:, None] > 0
    points[..., 1] -= form["m_brow_side"][:, None] * on_side
    return points


def _nose_points(form: Columns) -> np.ndarray:
    tip_u, tip_v, y, width = (
        form[name][:, None] for name in ("nose_u", "nose_v", "nose_y", "nose_width")
    )
    down_L = np.array([[0.05, 0.36, 0.68, 1.0]])
    bridge = np.stack([tip_u * down_L, (y + tip_v) * down_L], axis=-1)
    across_L = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]])
    low_L = np.array([[0.1, 0.2, 0.25, 0.2, 0.1]])
    base = np.stack([0.6 * tip_u + width * across_L, y + 0.6 * tip_v + low_L], axis=-1)
    return np.concatenate([bridge, base], axis=1)


def _eye_points(form: Columns) -> np.ndarray:
    """Left eye: outer corner, two above, inner corner, two below; right eye: inner corner first."""
    part = _columns(form, "eye_width", "eye_y_top", "eye_y_low", "eye_tilt")
    q_L = np.array([[-1.0, -0.36, 0.36, 1.0, 0.36, -0.36]])
    lid_BL = np.where(np.arange(6)[None] < 3, -part["eye_y_top"], part["eye_y_low"])
    lid_BL = lid_BL * (1.0 - q_L**2)
    q_BL = q_L * part["eye_width"]
    v_BL = lid_BL + part["eye_tilt"] * q_BL
    return _mirror(1.0 + q_BL, v_BL, backwards=np.array([3, 2, 1, 0, 5, 4]))


def mouth_curves(form: Columns, t: np.ndarray) -> tuple[np.ndarray, ...]:
    """v of the lips at t (-1 to 1, corner to corner): upper outer, inner, lower inner, outer."""
    t2 = t * t
    arch = np.maximum(1.0 - t2, 0.0)
    full = arch * (1.0 + form["m_square"] * t2)
    line = form["mouth_v"] - form["corner_even"] * t2 - form["corner_odd"] * t * np.abs(t)
    upper_in = line - form["gap_up"] * full
    lower_in = line + form["gap_low"] * full
    bow = np.maximum(1.0 - 14.0 * t2, 0.0)
    upper_out = upper_in - form["lip_up"] * (arch * (1.0 + 0.2 * t2) - 0.18 * bow)
    return upper_out, upper_in, lower_in, lower_in + form["lip_low"] * arch


def _mouth_points(form: Columns) -> np.ndarray:
    names = [
        "m_square",
        "mouth_v",
        "corner_even",
        "corner_odd",
        "gap_up",
        "gap_low",
        "lip_up",
        "lip_low",
    ]
    part = _columns(form, *names)
    outer_L = np.array([[-1.0, -0.62, -0.24, 0.0, 0.24, 0.62, 1.0, 0.62, 0.24, 0.0, -0.24, -0.62]])
    inner_L = np.array([[-0.9, -0.36, 0.0, 0.36, 0.9, 0.36, 0.0, -0.36]])
    up_out, _, _, low_out = mouth_curves(part, outer_L)
    _, up_in, low_in, _ = mouth_curves(part, inner_L)
    v_BL = np.concatenate(
        [
            np.where(np.arange(12) < 7, up_out, low_out),
            np.where(np.arange(8) < 5, up_in, low_in),
        ],
        axis=1,
    )
    t_L = np.concatenate([outer_L, inner_L], axis=1)
    u_BL = form["mouth_u"][:, None] + form["mouth_half"][:, None] * t_L
    return np.stack([u_BL, v_BL], axis=-1)

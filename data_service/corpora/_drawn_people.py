"""Who is drawn, and in what sitting: columns of numbers.

B faces. All randomness is a hash of (seed, subject, take, frame, name of the number), so a face
depends on nothing but its own key: not on its batch, nor on which numbers were drawn before it.
Lengths are in half eye distances: the eyes stand at (-1, 0) and (1, 0), y points down.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from data_service.schema import Expression

EXPRESSIONS: tuple[Expression, ...] = tuple(Expression)

Columns = dict[str, np.ndarray]
"""Named numbers of a batch: float32 [B], or [B, 3] for colours."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): each bit moves all bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def keys(seed: int, *counters_B: np.ndarray) -> np.ndarray:
    """One uint64 key per face from the seed and integer counters (subject, take, ...)."""
    key_B = _mix(np.full(np.shape(counters_B[0]), seed & 0xFFFFFFFFFFFFFFFF, np.uint64) + _GOLDEN)
    for counter_B in counters_B:
        key_B = _mix(key_B + _GOLDEN * (np.asarray(counter_B).astype(np.uint64) + np.uint64(1)))
    return key_B


class Chance:
    """Named uniform numbers of keyed faces."""

    def __init__(self, key_B: np.ndarray) -> None:
        self.key_B = key_B

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Float32 [B] in [low, high)."""
        salt = int(_GOLDEN) * zlib.crc32(name.encode()) & 0xFFFFFFFFFFFFFFFF
        bits_B = _mix(self.key_B + np.uint64(salt))
        unit_B = (bits_B >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return np.float32(low) + unit_B * np.float32(high - low)

    def bell(self, name: str, mean: float, spread: float) -> np.ndarray:
        """Float32 [B], the mean of three uniform numbers: within mean +- spread, mostly near it."""
        parts = [self.uniform(f"{name}/{part}", -1.0, 1.0) for part in range(3)]
        return np.float32(mean) + np.float32(spread / 2.0) * (parts[0] + parts[1] + parts[2]) / 1.5

    def pick(
        self, name: str, table: Sequence[Sequence[float]], odds: Sequence[float]
    ) -> np.ndarray:
        """A row of `table` per face, with the given odds."""
        edges = np.cumsum(np.asarray(odds, np.float64) / np.sum(odds))[:-1].astype(np.float32)
        return np.asarray(table, np.float32)[
            np.searchsorted(edges, self.uniform(name), side="right")
        ]

    def happens(self, name: str, chance: float) -> np.ndarray:
        """1.0 with the given chance, else 0.0."""
        return (self.uniform(name) < np.float32(chance)).astype(np.float32)


_SKINS = (
    (0.98, 0.83, 0.74), (0.95, 0.77, 0.65), (0.88, 0.68, 0.54),
    (0.78, 0.57, 0.42), (0.62, 0.42, 0.30), (0.44, 0.29, 0.21),
)  # fmt: skip
_HAIRS = (
    (0.08, 0.07, 0.07), (0.20, 0.12, 0.08), (0.36, 0.21, 0.12), (0.52, 0.27, 0.13),
    (0.85, 0.68, 0.40), (0.66, 0.30, 0.12), (0.66, 0.65, 0.65), (0.35, 0.20, 0.42),
)  # fmt: skip
_IRISES = (
    (0.26, 0.15, 0.08), (0.42, 0.27, 0.12), (0.28, 0.45, 0.24),
    (0.30, 0.50, 0.72), (0.45, 0.50, 0.52),
)  # fmt: skip


def people(seed: int, subject_B: np.ndarray) -> Columns:
    """What stays with a subject: skin, hair, eyes, bones, glasses, beard."""
    chance = Chance(keys(seed, subject_B))
    return _colours(chance) | _bones(chance) | _hair(chance)


def _colours(chance: Chance) -> Columns:
    jitter = np.stack([chance.uniform(f"tint/{c}", -0.03, 0.03) for c in "rgb"], axis=1)
    skin = np.clip(chance.pick("skin", _SKINS, (3, 4, 4, 3, 2, 2)) + jitter, 0.05, 1.0)
    hair = chance.pick("hair", _HAIRS, (4, 4, 4, 3, 3, 2, 2, 0.7))
    iris = chance.pick("iris", _IRISES, (4, 3, 2, 3, 1))
    red = chance.uniform("lip/red", 0.16, 0.32)[:, None] * np.array([1.0, -0.42, -0.2], np.float32)
    lip = np.clip(skin * chance.uniform("lip/level", 0.72, 1.02)[:, None] + red, 0.04, 1.0)
    warm = hair * 0.7 + np.array([0.1, 0.02, 0.0], np.float32)
    brow = warm + (skin * 0.7 - warm) * chance.uniform("brow_pale", 0.0, 0.6)[:, None]
    cloth = np.stack([chance.uniform(f"cloth/{c}", 0.08, 0.85) for c in "rgb"], axis=1)
    colours = {"skin": skin, "hair_colour": hair, "iris": iris, "lip_colour": lip, "cloth": cloth}
    colours["brow_colour"] = brow
    return {name: value.astype(np.float32) for name, value in colours.items()}


def _bones(chance: Chance) -> Columns:
    u, bell = chance.uniform, chance.bell
    return {
        "face_width": u("face_width", 1.95, 2.4),
        "chin": u("chin", 3.2, 3.75),
        "taper": u("taper", 0.02, 0.34),
        "square": u("square", 0.15, 0.8),
        "eye_width": u("eye_width", 0.5, 0.64),
        "eye_height": u("eye_height", 0.92, 1.25),
        "eye_tilt": bell("eye_tilt", -0.05, 0.16),
        "crease": u("crease", 0.06, 0.2),
        "makeup": chance.happens("makeup", 0.3) * u("makeup/much", 0.3, 0.8),
        "brow_y": bell("brow_y", -0.78, 0.2),
        "brow_slant": bell("brow_slant", 0.0, 0.09),
        "brow_arch": u("brow_arch", 0.04, 0.17),
        "brow_thick": u("brow_thick", 0.09, 0.19),
        "brow_dark": u("brow_dark", 0.55, 1.0),
        "nose_width": u("nose_width", 0.36, 0.58),
        "nose_y": bell("nose_y", 1.18, 0.2),
        "mouth_y": bell("mouth_y", 2.3, 0.26),
        "mouth_width": u("mouth_width", 0.78, 1.02),
        "mouth_droop": bell("mouth_droop", -0.01, 0.04),
        "lip_upper": u("lip_upper", 0.1, 0.24),
        "lip_lower": u("lip_lower", 0.14, 0.3),
        "ear": u("ear", 0.8, 1.25),
        "age": u("age", 0.0, 1.0),
        "asymmetry": bell("asymmetry", 0.0, 0.03),
    }


def _hair(chance: Chance) -> Columns:
    u, happens = chance.uniform, chance.happens
    bald = happens("bald", 0.08)
    beard = happens("beard", 0.3)
    return {
        "bald": bald,
        "long": happens("long", 0.42) * (1 - bald) * (1 - beard),
        "hair_length": u("hair_length", 2.2, 5.0),
        "hair_volume": u("hair_volume", 0.12, 0.55),
        "hairline": u("hairline", -2.25, -1.6),
        "hair_curve": u("hair_curve", -0.05, 0.3),
        "fringe": happens("fringe", 0.35) * u("fringe/deep", 0.2, 0.75) * (1 - bald),
        "parting": u("parting", -0.45, 0.45),
        "sweep": u("sweep", -0.22, 0.22),
        "hair_wave": u("hair_wave", 0.0, 0.12),
        "glasses": happens("glasses", 0.35),
        "glasses_round": u("glasses_round", 0.0, 1.0),
        "glasses_size": u("glasses_size", 0.68, 0.84),
        "glasses_thick": u("glasses_thick", 0.03, 0.075),
        "glasses_dark": u("glasses_dark", 0.05, 0.4),
        "beard": beard * u("beard/dense", 0.35, 0.9),
        "beard_full": happens("beard_full", 0.6),
        "moustache": np.maximum(beard, happens("moustache", 0.06)) * u("moustache/dense", 0.4, 0.9),
    }


def moments(
    seed: int, subject_B: np.ndarray, take_B: np.ndarray, frame_B: np.ndarray, difficulty: float
) -> Columns:
    """A frame of a sitting: the sitting's numbers, and what changes from frame to frame.

    The head moves a little, the gaze wanders, and the camera's noise is new.
    """
    sitting = _sittings(seed, subject_B, take_B, difficulty)
    chance = Chance(keys(seed, subject_B, take_B, frame_B))
    bell, wild = chance.bell, np.float32(difficulty)
    moved = {
        "yaw": bell("yaw", 0.0, 0.04),
        "pitch": bell("pitch", 0.0, 0.03),
        "roll": bell("roll", 0.0, 0.02),
        "scale": bell("scale", 0.0, 0.01),
        "shift_x": bell("shift_x", 0.0, 0.005),
        "shift_y": bell("shift_y", 0.0, 0.005),
    }
    return (
        sitting
        | {name: sitting[name] + value * wild for name, value in moved.items()}
        | {
            "key": chance.key_B,
            "gaze_x": bell("gaze_x", 0.0, 0.14),
            "gaze_y": bell("gaze_y", 0.02, 0.06),
        }
    )


def _sittings(seed: int, subject_B: np.ndarray, take_B: np.ndarray, difficulty: float) -> Columns:
    """What changes between sittings of a subject; `difficulty` 0 is a studio, 1 the street."""
    chance = Chance(keys(seed, subject_B, take_B))
    u, bell, happens = chance.uniform, chance.bell, chance.happens
    wild = np.float32(difficulty)
    return {
        "yaw": bell("yaw", 0.0, 0.6) * wild,
        "pitch": bell("pitch", 0.0, 0.38) * wild,
        "roll": bell("roll", 0.0, 0.3) * wild,
        "scale": 1.0 + bell("scale", 0.0, 0.1) * wild,
        "shift_x": bell("shift_x", 0.0, 0.03) * wild,
        "shift_y": bell("shift_y", 0.0, 0.02) * wild,
        "light_x": -0.25 + (u("light_x", -0.6, 0.6) + 0.25) * wild,
        "light_y": -0.35 + bell("light_y", 0.0, 0.45) * wild,
        "contrast": 0.45 + u("contrast", -0.2, 0.2) * wild,
        "exposure": 1.0 + bell("exposure", 0.0, 0.22) * wild,
        "cast_red": bell("cast_red", 0.0, 0.08) * wild,
        "cast_blue": bell("cast_blue", 0.0, 0.08) * wild,
        "cut": happens("cut", 0.8) * u("cut/deep", 0.2, 0.48) * wild,
        "cut_angle": u("cut_angle", 0.0, 6.2832),
        "blinds": happens("blinds", 0.5) * u("blinds/often", 0.35, 0.9),
        "cut_offset": u("cut_offset", -0.8, 0.8),
        "noise": 0.008 + u("noise", 0.0, 0.058) * wild,
        **{
            name: happens(name, 0.2 * difficulty) * u(f"{name}/much", 0.2, 0.55)
            for name in ("rosy", "rage", "queasy", "pale", "weep")
        },
        "backdrop_r": u("backdrop_r", 0.15, 0.9),
        "backdrop_g": u("backdrop_g", 0.15, 0.9),
        "backdrop_b": u("backdrop_b", 0.15, 0.9),
        "backdrop_slope": u("backdrop_slope", -0.35, 0.35),
        "backdrop_angle": u("backdrop_angle", 0.0, 6.2832),
        "occluder": happens("occluder", 0.12 * difficulty),
        "occluder_u": u("occluder_u", -2.0, 2.0),
        "occluder_v": u("occluder_v", -1.6, 3.4),
        "occluder_angle": u("occluder_angle", 0.0, 3.1416),
        "occluder_tone": u("occluder_tone", 0.05, 0.95),
        "open": u("open"),
        "talk": happens("talk", 0.2 * difficulty) * u("talk/wide", 0.06, 0.2),
        "side": np.where(u("side") < 0.5, -1.0, 1.0).astype(np.float32),
        "brow_rest": bell("brow_rest", 0.0, 0.07) * wild,
        "corner_rest": bell("corner_rest", 0.0, 0.02) * wild,
    }

"""What an ingest is named by: what it is made from, and the rows that come of it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from data_service.ingest_blocks import block_faces
from data_service.lakes.manifest import blake
from data_service.rows import Recipe
from data_service.schema import Scan, SourceFace


def source_hash(scan: Scan, recipe: Recipe) -> str:
    """Names which faces were listed, for people to compare; nothing is decided by it.

    It covers the recipe and, of each listed face, name, subject, sitting, sequence, frame,
    expression and the size of its file. It covers neither the content of the files nor split,
    intensity, votes, attributes and landmarks: `Manifest.hash` names what came of these.
    """
    digest = hashlib.blake2b(json.dumps(asdict(recipe), sort_keys=True).encode(), digest_size=16)
    for face in sorted(scan.faces, key=lambda face: face.name):
        state = _state(face)
        size = state.st_size if state else 0
        told = (face.name, face.subject, face.sitting, face.sequence, face.frame)
        digest.update(json.dumps((*told, face.expression, size)).encode())
    return digest.hexdigest()


def work_hash(scan: Scan, recipe: Recipe) -> str:
    """Names the rows to come: all that is listed of each face, the files' state, and this code."""
    digest = blake(json.dumps([asdict(recipe), block_faces(scan.faces)]).encode())
    for name in ("numpy", "opencv-python-headless", "onnxruntime", "Pillow", "av", "scipy"):
        digest.update(f"{name} {version(name)}\n".encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for face in scan.faces:
        state = _state(face)
        told = [getattr(face, name) for name in _TOLD_OF_A_FACE]
        told += [state.st_size, state.st_mtime_ns] if state else [None]
        digest.update(json.dumps(told, default=_plain).encode())
        if face.landmarks_L3 is not None:
            digest.update(np.asarray(face.landmarks_L3).tobytes())
    return digest.hexdigest()


def _state(face: SourceFace) -> os.stat_result | None:
    """Of the face's file, where there is an ordinary one."""
    try:
        state = os.stat(face.path) if face.path else None
    except OSError:
        return None
    return state if state and stat.S_ISREG(state.st_mode) else None


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping that is no dict, for JSON; TypeError for what is no mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} {value!r} in a listed face")
    return dict(value)


_TOLD_OF_A_FACE = tuple(
    item.name for item in fields(SourceFace) if item.name not in ("path", "landmarks_L3")
)

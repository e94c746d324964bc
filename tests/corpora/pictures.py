"""Pictures for miniature corpora: drawn faces, encoded as their files would be."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from data_service.corpora import drawn
from data_service.schema import Expression


@lru_cache(maxsize=512)
def face(subject: int, expression: Expression, frame: int = 0, size: int = 96) -> np.ndarray:
    """A drawn face of a subject, uint8 RGB `size` x `size`."""
    drawing = drawn.draw(
        subjects=[subject],
        expressions=[expression],
        intensities=[0.0 if expression == Expression.NEUTRAL else 1.0],
        frames=[frame],
        size=size,
        difficulty=0.5,
    )
    return drawing.images_BHWC[0]


def encoded(picture_HW3: np.ndarray, kind: str = "JPEG", **settings: object) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture_HW3).save(buffer, kind, **settings)
    return buffer.getvalue()


def write(path: Path, content: str | bytes | np.ndarray) -> Path:
    """Writes a file and the folders above it; a picture in the format that its name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), path.suffix[1:].upper())
        content = encoded(content, kind)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path

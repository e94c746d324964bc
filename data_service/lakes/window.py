"""How a lake larger than memory is shuffled: within a window that slides over it."""

from __future__ import annotations

from dataclasses import dataclass

from data_service.lakes.manifest import Manifest

CHUNK_BYTES = 1 << 20
"""What is read from the disk in one piece."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """So many faces are held ready at a time, and come from the disk in chunks of so many."""

    faces: int
    chunk: int

    @classmethod
    def of(cls, lake: Manifest, mebibytes: int) -> Window | None:
        """The window of that size over a lake; None where it is all of the lake, or 0."""
        if not mebibytes or lake.num_bytes <= mebibytes << 20:
            return None
        face_bytes = lake.image_size**2 * lake.channels
        return cls(
            faces=max(1, (mebibytes << 20) // face_bytes), chunk=max(1, CHUNK_BYTES // face_bytes)
        )

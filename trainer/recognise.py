"""Names the expression in photographs, one by one or by the folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.photographs import Photograph, Viewer, ask
from trainer.restore import LoadedSystem, load_capable

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """What a system sees in one photograph. `alignment` tells how the face was found."""

    image: str
    expression: str
    confidence: float
    confidences: dict[str, float]
    alignment: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A file of a folder that could not be read, and why."""

    image: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def recognise(
    run: str, sources: Sequence[Path]
) -> tuple[tuple[Recognised, ...], tuple[Refused, ...]]:
    """The expression of the main face of each photograph, and the files that are none.

    A source is a file, or a folder whose pictures are taken in order, at any depth. ValueError when
    the run's system does not recognise, a file named as such is no image, or a folder has none.
    """
    loaded = load_capable(run, "recognise")
    viewer = Viewer(loaded)
    found: list[Recognised] = []
    refused: list[Refused] = []
    for source in sources:
        for path in _files(source):
            try:
                photograph = viewer.read(path)
            except ValueError as error:
                if path == source:
                    raise
                refused.append(Refused(image=str(path), reason=str(error)))
                continue
            found.append(_named(loaded, str(path), photograph))
    return tuple(found), tuple(refused)


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    pictures = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()
    )
    if not pictures:
        raise ValueError(f"{source} has no picture; valid: {', '.join(PICTURES)}")
    yield from pictures


def _named(loaded: LoadedSystem, name: str, photograph: Photograph) -> Recognised:
    logits_BK = ask(loaded, photograph).logits_BK
    assert logits_BK is not None
    shares = logits_BK[0].float().softmax(0).tolist()
    best = int(np.argmax(shares))
    return Recognised(
        image=name,
        expression=str(loaded.info.classes[best]),
        confidence=shares[best],
        confidences=dict(zip(map(str, loaded.info.classes), shares, strict=True)),
        alignment=photograph.alignment,
    )

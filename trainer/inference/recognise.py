"""Names the expression in photographs and videos, one by one or by the folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_service.alignment.decode import UnreadableImageError, decode, read_bytes
from data_service.alignment.video import SUFFIXES, count_frames, read_frames
from trainer.inference.photographs import Photograph, Viewer, read_expression
from trainer.restore import LoadedSystem, best_device, load_capable

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif")
VALID = frozenset({*PICTURES, *SUFFIXES})


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """What a system sees in one photograph, or in a frame (from 0) of a video.

    `alignment` tells how the face was found.
    """

    image: str
    frame: int | None
    expression: str
    confidence: float
    confidences: dict[str, float]
    alignment: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A file, a folder, or a frame of a video, that could not be read, and why."""

    image: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def recognise(
    run: str, sources: Sequence[Path], *, every: int = 1
) -> tuple[tuple[Recognised, ...], tuple[Refused, ...]]:
    """The expression of the main face of each picture, and what could not be read.

    A source is a picture, a video, of which each `every`-th frame is taken, or a folder whose
    pictures and videos are taken in order, at any depth. As on the scorecard, an answer is the mean
    of those to the face and to its mirror image, where the run has `evaluation.flip`. ValueError
    when the run's system does not recognise, or the only source is a file that is neither picture
    nor video, or a folder that has none; one of several sources is refused, and the others count.
    """
    if every < 1:
        raise ValueError(f"every {every}th frame; valid: 1 or more")
    loaded = load_capable(run, "recognise", best_device())
    viewer = Viewer(loaded)
    found: list[Recognised] = []
    refused: list[Refused] = []
    for source in sources:
        for answer in _answers(loaded, viewer, source, every):
            if isinstance(answer, Recognised):
                found.append(answer)
            elif len(sources) == 1 and answer.image == str(source):
                raise ValueError(f"{answer.image}: {answer.reason}")
            else:
                refused.append(answer)
    return tuple(found), tuple(refused)


def _answers(
    loaded: LoadedSystem, viewer: Viewer, source: Path, every: int
) -> Iterator[Recognised | Refused]:
    """All that is said of a source, in order."""
    files = _files(source)
    if not files:
        why = f"has no picture and no video; valid: {', '.join(sorted(VALID))}"
        yield Refused(image=str(source), reason=why)
    for path in files:
        try:
            for number, image in _images(path, every):
                if isinstance(image, UnreadableImageError):
                    yield Refused(image=f"{path}, frame {number}", reason=str(image))
                else:
                    yield _named(loaded, path, number, viewer.see(image))
        except UnreadableImageError as error:
            yield Refused(image=str(path), reason=str(error))


def _images(
    path: Path, every: int
) -> Iterator[tuple[int | None, np.ndarray | UnreadableImageError]]:
    """The pictures of a file, each with its number where it is a frame."""
    if path.suffix.lower() not in SUFFIXES:
        yield None, decode(read_bytes(path))
        return
    wanted = range(0, count_frames(path), every)
    yield from zip(wanted, read_frames(path, wanted), strict=True)


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    return sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in VALID and not path.name.startswith(".") and path.is_file()
    )


def _named(
    loaded: LoadedSystem, path: Path, frame: int | None, photograph: Photograph
) -> Recognised:
    logits_BK = read_expression(loaded, photograph)
    shares = logits_BK[0].float().softmax(0).tolist()
    best = int(np.argmax(shares))
    return Recognised(
        image=str(path),
        frame=frame,
        expression=str(loaded.info.classes[best]),
        confidence=shares[best],
        confidences=dict(zip(map(str, loaded.info.classes), shares, strict=True)),
        alignment=photograph.alignment,
    )

"""Listed faces become rows of a lake: read, placed, hashed.

Shapes: N faces, H height, W width, S side of a crop, C channels, L landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from data_service import corpora
from data_service.alignment.align import Aligner, PlacedFace, as_delivered
from data_service.alignment.decode import UnreadableImageError, decode, grey, read_bytes
from data_service.corpora._files import is_picture
from data_service.schema import (
    THUMBNAIL_PIXELS,
    Rejection,
    SourceFace,
    content_hash,
    face_schema,
    sample_id,
)

Picture = tuple[np.ndarray, blake2b]
"""Pixels, uint8 RGB H x W x 3, and the hash of what they were read from."""

Made = tuple[int, pa.Table, list[Rejection]]
"""A block's number, its rows (`face_schema`), and the faces that gave none."""

TOGETHER_BYTES = 8 << 20
"""Of decoded pictures that are worked on together: with the one that reaches it a group ends."""
HASH_PIXELS = 32
COSINES = np.cos(np.pi / HASH_PIXELS * np.outer(np.arange(9), np.arange(HASH_PIXELS) + 0.5))


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What a worker must know to make rows: of which corpus, and what their pictures are like.

    `aligned`: the pictures show what is wanted already, or the part of them that a face's option
    `box` frames (left, top, width, height in pixels), which is only brought to size.
    """

    corpus: str
    image_size: int
    channels: int
    aligned: bool


class RowMaker:
    """Makes rows of faces, each by itself: how faces are grouped or ordered changes no row.

    The detector is loaded once, when the first face needs it.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._corpus = corpora.load(recipe.corpus)

    def rows(self, faces: Sequence[SourceFace]) -> tuple[pa.Table, list[Rejection]]:
        """Rows (`face_schema`) of the faces that can be read, and the others with reasons."""
        made: list[dict[str, Any]] = []
        rejected: list[Rejection] = []
        for group in self._groups(faces, rejected):
            made += self._rows(group)
            group.clear()  # large; not to be held while the next ones are decoded
        return self._table(made), rejected

    def _groups(
        self, faces: Sequence[SourceFace], rejected: list[Rejection]
    ) -> Iterator[list[tuple[SourceFace, np.ndarray, blake2b]]]:
        """The faces that can be read, with what was read; the others go to `rejected`.

        Many are decoded, then all placed, then all made rows of: taken one by one, each step would
        find the processor's caches full of the one before, and an ingest takes 7 % longer.
        """
        group, num_bytes = [], 0
        for face, picture in self._pictures(faces):
            if isinstance(picture, Rejection):
                rejected.append(picture)
                continue
            image_HW3, content = picture
            group.append((face, self._view(face, image_HW3), content))
            num_bytes += image_HW3.nbytes
            del picture, image_HW3
            if num_bytes >= TOGETHER_BYTES:
                yield group
                group, num_bytes = [], 0
        yield group

    def _rows(self, group: list[tuple[SourceFace, np.ndarray, blake2b]]) -> list[dict[str, Any]]:
        placed = [self._place(face, image_HW3) for face, image_HW3, _ in group]
        return [
            self._row(face, one, content, image_HW3)
            for (face, image_HW3, content), one in zip(group, placed, strict=True)
        ]

    def _pictures(
        self, faces: Sequence[SourceFace]
    ) -> Iterator[tuple[SourceFace, Picture | Rejection]]:
        if isinstance(self._corpus, corpora.PictureMaker):
            for face, image_HW3 in zip(faces, self._corpus.images(faces), strict=True):
                yield face, (image_HW3, content_hash(image_HW3.tobytes()))
            return
        for path, group in groupby(faces, key=lambda face: face.path):
            assert path is not None, "a corpus without images() gives every face a path"
            of_file = list(group)
            pictures = self._of_file(path, of_file)
            for face in of_file:
                yield face, _or_rejection(face, next(pictures))

    def _of_file(
        self, path: Path, faces: Sequence[SourceFace]
    ) -> Iterator[Picture | UnreadableImageError]:
        """The pictures of the faces that share a file, which is read once."""
        done = 0
        try:
            if isinstance(self._corpus, corpora.PictureReader) and not is_picture(path):
                for picture in self._corpus.read_pictures(path, faces):
                    done += 1
                    whole = isinstance(picture, np.ndarray)
                    yield (picture, content_hash(picture.tobytes())) if whole else picture
            else:
                image_HW3, content = _read(path)
                for _ in faces:
                    done += 1
                    yield image_HW3, content
        except UnreadableImageError as error:
            yield from [error] * (len(faces) - done)
        except OSError as error:
            lost = UnreadableImageError("file not readable", error.strerror or str(error))
            yield from [lost] * (len(faces) - done)

    def _view(self, face: SourceFace, image_HW3: np.ndarray) -> np.ndarray:
        """The picture, or the part or turn of it that shows the face upright and from the front."""
        views = face.options.get("views")
        return self._aligner.upright(image_HW3, views) if views else image_HW3

    def _place(self, face: SourceFace, image_HW3: np.ndarray) -> PlacedFace:
        side = self._recipe.image_size
        if self._recipe.aligned:
            box_4, points_L3 = face.options.get("box"), face.landmarks_L3
            return as_delivered(image_HW3, side=side, landmarks_L3=points_L3, box_4=box_4)
        return self._aligner.place(image_HW3, side=side, landmarks_L3=face.landmarks_L3)

    @cached_property
    def _aligner(self) -> Aligner:
        return Aligner()

    def _row(
        self, face: SourceFace, placed: PlacedFace, content: blake2b, image_HW3: np.ndarray
    ) -> dict[str, Any]:
        grey_SS1 = grey(placed.image_SS3)
        landmarks_L3 = placed.landmarks_L3
        return {
            "sample_id": sample_id(face.name, content),
            "corpus": self._recipe.corpus,
            "name": face.name,
            "subject": face.subject,
            "sitting": face.sitting,
            "sequence": face.sequence,
            "frame": face.frame,
            "expression": face.expression,
            "intensity": face.intensity,
            "split": face.split,
            "attributes": list(face.attributes.items()),
            "votes": list(face.votes.items()),
            "landmarks": None if landmarks_L3 is None else np.float32(landmarks_L3).ravel(),
            "alignment": placed.alignment,
            "confidence": placed.confidence,
            "perceptual_hash": perceptual_hash(grey_SS1),
            "source_height": image_HW3.shape[0],
            "source_width": image_HW3.shape[1],
            "crop_matrix": np.float32(placed.matrix_23).ravel(),
            "source_thumbnail": thumbnail(image_HW3).tobytes(),
            "image": grey_SS1 if self._recipe.channels == 1 else placed.image_SS3,
        }

    def _table(self, made: list[dict[str, Any]]) -> pa.Table:
        schema = face_schema(self._recipe.image_size, self._recipe.channels)
        columns = []
        for column in schema:
            values = [row[column.name] for row in made]
            if column.name == "image":
                pixels = np.concatenate([np.empty(0, np.uint8), *(one.ravel() for one in values)])
                stored = pa.FixedSizeListArray.from_arrays(
                    pa.array(pixels), column.type.storage_type.list_size
                )
                columns.append(pa.ExtensionArray.from_storage(column.type, stored))
            else:
                columns.append(pa.array(values, column.type))
        return pa.Table.from_arrays(columns, schema=schema)


def _or_rejection(face: SourceFace, picture: Picture | UnreadableImageError) -> Picture | Rejection:
    if isinstance(picture, UnreadableImageError):
        return Rejection(name=face.name, reason=picture.reason, detail=picture.detail)
    return picture


def _read(path: Path) -> Picture:
    """A picture and the hash of its file, which is not kept: it may be as large as the picture."""
    content = read_bytes(path)
    return decode(content), content_hash(content)


def thumbnail(image_HW3: np.ndarray) -> np.ndarray:
    """The whole picture in grey, `THUMBNAIL_PIXELS` high and wide, whatever its proportions.

    Brought to a power of two times that by a factor below two, and from there down by halves: that
    is several times as fast as the mean over parts of pixels at once.
    """
    grey_HW = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)
    halves = [max(0, (side // THUMBNAIL_PIXELS).bit_length() - 1) for side in grey_HW.shape]
    height, width = (THUMBNAIL_PIXELS << number for number in halves)
    grey_HW = cv2.resize(grey_HW, (width, height), interpolation=cv2.INTER_LINEAR)
    while max(height, width) > THUMBNAIL_PIXELS:
        height, width = (max(side // 2, THUMBNAIL_PIXELS) for side in (height, width))
        grey_HW = cv2.resize(grey_HW, (width, height), interpolation=cv2.INTER_AREA)
    return grey_HW


def perceptual_hash(grey_SS1: np.ndarray) -> int:
    """Sixty-four bits that stay nearly the same when a picture is re-encoded or scaled (pHash).

    A bit says whether one of the lowest frequencies of the cosine transform, without the mean, is
    above their median.
    """
    small = cv2.resize(grey_SS1, (HASH_PIXELS, HASH_PIXELS), interpolation=cv2.INTER_AREA)
    frequencies_64 = (COSINES @ small.astype(np.float64) @ COSINES.T).ravel()[1:65]
    median = np.partition(frequencies_64, (31, 32))[31:33].mean()
    return int.from_bytes(np.packbits(frequencies_64 > median).tobytes(), "big")


def made_rows(recipe: Recipe, blocks: Sequence[tuple[int, Sequence[SourceFace]]]) -> list[Made]:
    """Of each numbered block its number, rows and rejections; the process keeps what it loads."""
    maker = _maker(recipe)
    return [(number, *maker.rows(faces)) for number, faces in blocks]


@lru_cache(maxsize=1)
def _maker(recipe: Recipe) -> RowMaker:
    return RowMaker(recipe)

"""Corpora that can be read: one module each; its file name is the key on the command line.

A corpus module has `NAME`, `DESCRIPTION` (one line), `LAYOUT` (the folder it must be given, as a
drawing), `EXPECTED` (counts of a complete copy, by the keys of `counts`) and
`scan(source, **options) -> Scan`, which lists the faces without opening a picture. Some have more:
`FOLDS`, interval or blocks, where the literature divides the subjects by such a rule;
`LEFT_ALONE`, patterns of the files below the source that are neither taken nor told: labels, lists,
meshes, what the default options do not choose; every other file that is not of a lake is a face or
rejected;
`images(faces) -> uint8 B x S x S x 3` where the module makes its pictures itself, and needs no
source; `read_pictures(path, faces)` where the pictures lie inside larger files.
Modules whose names start with an underscore are parts of others.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import (
    Any,
    Literal,
    Protocol,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import numpy as np

from data_service.alignment.decode import UnreadableImageError
from data_service.corpora._files import sound
from data_service.schema import Scan, SourceFace


class Corpus(Protocol):
    """What a corpus module looks like."""

    NAME: str
    DESCRIPTION: str
    LAYOUT: str
    EXPECTED: Mapping[str, int]

    def scan(self, source: Path | None, **options: Any) -> Scan:
        """The faces below `source`. ValueError, one line, for a folder that is not this corpus."""
        ...


@runtime_checkable
class PictureMaker(Protocol):
    """A corpus module that makes the pictures of its faces itself."""

    def images(self, faces: Sequence[SourceFace]) -> np.ndarray:
        """The pictures of the faces, uint8 B x S x S x 3."""
        ...


@runtime_checkable
class PictureReader(Protocol):
    """A corpus module whose pictures lie inside larger files: videos, tables, arrays."""

    def read_pictures(
        self, path: Path, faces: Sequence[SourceFace]
    ) -> Iterator[np.ndarray | UnreadableImageError]:
        """The picture of each of the faces that share the file `path`, in order: uint8 H x W x 3,
        or why there is none. Raises UnreadableImageError where the whole file is of no use."""
        ...


def names() -> tuple[str, ...]:
    """The keys of all corpora, in alphabetical order."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> Corpus:
    """The corpus of that key; ValueError lists the valid ones."""
    if name not in names():
        raise ValueError(f"unknown corpus '{name}'; valid: {', '.join(names())}")
    return cast(Corpus, importlib.import_module(f"{__name__}.{name}"))


def option_names(corpus: Corpus) -> tuple[str, ...]:
    """The options that the corpus' `scan` takes."""
    return tuple(inspect.signature(corpus.scan).parameters)[1:]


def _checked(name: str, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the types that `scan` declares; ValueError names what is unknown or wrong."""
    valid, types = option_names(corpus), get_type_hints(corpus.scan)
    if unknown := sorted(set(options) - set(valid)):
        offer = f"valid: {', '.join(valid)}" if valid else "it has none"
        raise ValueError(f"unknown option '{unknown[0]}' of corpus {name}; {offer}")
    return {
        option: _typed(f"option {option} '{value}' of corpus {name}", types[option], value)
        for option, value in options.items()
    }


def _typed(told: str, kind: Any, value: Any) -> Any:
    """The value of one option, or what its text says, as `kind`; ValueError starts with `told`."""
    if get_origin(kind) is Literal:
        choices = {str(choice): choice for choice in get_args(kind)}
        if str(value) not in choices:
            raise ValueError(f"{told}; valid: {', '.join(choices)}")
        return choices[str(value)]
    if kind is str:
        return str(value)
    if isinstance(value, str):
        value = _said(kind, value)
    fits = {
        bool: (isinstance(value, bool), "true or false"),
        int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        float: (isinstance(value, (int, float)) and not isinstance(value, bool), "a number"),
    }
    fit, valid = fits.get(kind, (True, ""))
    if not fit:
        raise ValueError(f"{told}; valid: {valid}")
    return value


def _said(kind: Any, text: str) -> Any:
    """What a text says as a `kind`; the text itself where it says none."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def scan(
    name: str, source: Path | None, options: Mapping[str, Any], *, image_size: int | None = None
) -> Scan:
    """Scans a source as the corpus `name`; ValueError for an unknown option or a wrong source.

    A corpus that makes its pictures makes them in `image_size`, unless the options tell a `size`.
    Faces whose files lie outside of the source, by links, or may not be read are rejected.
    """
    corpus = load(name)
    if image_size is not None and isinstance(corpus, PictureMaker):
        options = {"size": image_size, **options}
    options = _checked(name, corpus, options)
    # absolute, because a worker that reads the files stands in another folder
    source = source.absolute() if source else None
    try:
        found = corpus.scan(source, **options)
        return sound(source, found) if source else found
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error


def counts(faces: Sequence[SourceFace]) -> dict[str, int]:
    """Faces and sequences in all and by expression, subjects, faces by part of the official split.

    The keys are those that EXPECTED uses.
    """
    found = Counter({"faces": len(faces)})
    found["subjects"] = len({face.subject for face in faces if face.subject is not None})
    found.update(f"faces/{face.expression}" for face in faces if face.expression)
    found.update(f"split/{face.split}" for face in faces if face.split)
    sequences = {(face.subject, face.sequence) for face in faces if face.sequence is not None}
    found["sequences"] = len(sequences)
    labelled = {
        (face.subject, face.sequence, face.expression)
        for face in faces
        if face.sequence is not None and face.expression
    }
    found.update(f"sequences/{expression}" for _, _, expression in labelled)
    return {key: value for key, value in sorted(found.items()) if value}

"""Variables of untrusted .mat files (MATLAB 5 to 7.2), read piece by piece in little memory.

The format is that of MathWorks' "MAT-File Format"; only what tells of a variable, and its numbers,
are read.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_service.alignment.ordinary import open_ordinary

PIECE_BYTES = 1 << 20
MAX_VARIABLES = 1000
MAX_NAME_BYTES, MAX_DIMENSIONS = 256, 32
ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
"""The byte order by what the file's header ends with."""
STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""How numbers may be stored, whatever their class."""
NAME, DIMENSIONS, FLAGS, MATRIX, COMPRESSED = 1, 5, 6, 14, 15
NUMBERS = {
    6: "float64",
    7: "float32",
    8: "int8",
    9: "uint8",
    10: "int16",
    11: "uint16",
    12: "int32",
    13: "uint32",
    14: "int64",
    15: "uint64",
}
OTHERS = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse matrix", 16: "function"}
COMPLEX = 8
DAMAGE = (OSError, ValueError, zlib.error, struct.error)
"""What reading a damaged file raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """What is told of a variable: its class (`kind`) by numpy's name, and where it lies: start,
    bytes, and whether they are compressed."""

    shape: tuple[int, ...]
    kind: str
    order: str
    place: tuple[int, int, bool]

    @property
    def is_numbers(self) -> bool:
        """Whether it is an array of real numbers."""
        return self.kind in NUMBERS.values()


def variables(path: Path) -> dict[str, Variable]:
    """The variables of a file by name; ValueError for what is no .mat file of these versions."""
    try:
        with open_ordinary(path) as file:
            return dict(_variables(file))
    except DAMAGE as error:
        raise ValueError(f"{path} is no .mat file that can be read: {error}") from None


def pieces(path: Path, variable: Variable) -> Iterator[np.ndarray]:
    """The numbers of a variable as they are stored, in MATLAB's order (the first index runs first).

    ValueError where they are damaged.
    """
    try:
        with open_ordinary(path) as file:
            stream = _Stream(file, *variable.place)
            _told(stream, variable.order)
            kind, size, inside = _tag(stream, variable.order)
            if kind not in STORED:
                raise ValueError("its numbers are of no known type")
            stored = np.dtype(variable.order + STORED[kind])
            if size != math.prod(variable.shape) * stored.itemsize:
                raise ValueError("it has fewer or more numbers than it tells")
            for left in range(size, 0, -PIECE_BYTES):
                yield np.frombuffer(inside or stream.read(min(left, PIECE_BYTES)), stored)
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged: {error}") from None


class _Stream:
    """The bytes of one variable, inflated where they are compressed."""

    def __init__(self, file: BinaryIO, start: int, num_bytes: int, compressed: bool) -> None:
        file.seek(start)
        self._file, self._left = file, num_bytes
        self._inflate = zlib.decompressobj() if compressed else None

    def read(self, count: int) -> bytes:
        """So many bytes; ValueError where there are fewer."""
        content = b""
        while len(content) < count:
            piece = self._some(count - len(content))
            if not piece:
                raise ValueError("cut short")
            content += piece
        return content

    def _some(self, most: int) -> bytes:
        if self._inflate is None:
            return self._given(most)
        given = self._inflate.unconsumed_tail
        while not (piece := self._inflate.decompress(given, most)):
            given = self._inflate.unconsumed_tail or self._given(PIECE_BYTES)
            if not given:
                break
        return piece

    def _given(self, most: int) -> bytes:
        given = self._file.read(min(most, self._left))
        self._left -= len(given)
        return given


def _variables(file: BinaryIO) -> Iterator[tuple[str, Variable]]:
    order = ORDERS.get(file.read(128)[124:])
    if order is None:
        raise ValueError("not of MATLAB 5 to 7.2; save it with -v7")
    at = 128
    for _ in range(MAX_VARIABLES):
        file.seek(at)
        if not (tag := file.read(8)):
            return
        if len(tag) < 8:
            raise ValueError("cut short")
        element, size = struct.unpack(f"{order}II", tag)
        if element not in (MATRIX, COMPRESSED):
            raise ValueError(f"an element of type {element}")
        compressed = element == COMPRESSED
        place = (at + 8, size, True) if compressed else (at, size + 8, False)
        name, shape, kind = _told(_Stream(file, *place), order)
        yield name, Variable(shape=shape, kind=kind, order=order, place=place)
        at += 8 + size
    raise ValueError(f"more than {MAX_VARIABLES} variables")


def _told(stream: _Stream, order: str) -> tuple[str, tuple[int, ...], str]:
    """Name, shape and class of the variable that a stream begins with; its numbers come next."""
    if struct.unpack(f"{order}II", stream.read(8))[0] != MATRIX:
        raise ValueError("a variable that is no matrix")
    flags = _small(stream, order, FLAGS, 8)
    [word] = struct.unpack(f"{order}I", flags[:4])
    kind = NUMBERS.get(word & 255) or OTHERS.get(word & 255) or "variable of an unknown class"
    if word >> 8 & COMPLEX:
        kind = "complex array"
    if kind not in NUMBERS.values() and kind not in OTHERS.values():
        return "?", (), kind
    dimensions = _small(stream, order, DIMENSIONS, 4 * MAX_DIMENSIONS)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    if min(shape, default=-1) < 0:
        raise ValueError(f"a variable of the shape {shape}")
    return _small(stream, order, NAME, MAX_NAME_BYTES).decode("latin-1"), shape, kind


def _small(stream: _Stream, order: str, wanted: int, most: int) -> bytes:
    """The content of the next element, of a certain type and bounded size."""
    element, size, content = _tag(stream, order)
    if element != wanted or size > most:
        raise ValueError(f"an element of type {element} and {size} bytes")
    return content or stream.read(-(-size // 8) * 8)[:size]


def _tag(stream: _Stream, order: str) -> tuple[int, int, bytes]:
    """Type and size of the next element, and its content where that stands in the tag itself."""
    tag = stream.read(8)
    element, size = struct.unpack(f"{order}II", tag)
    if element >> 16:
        element, size = element & 0xFFFF, element >> 16
        if size > 4:
            raise ValueError(f"a small element of {size} bytes")
        return element, size, tag[4 : 4 + size]
    return element, size, b""

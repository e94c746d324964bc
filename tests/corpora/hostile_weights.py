"""Files that stand in for weights and checkpoints and harm, or fool, whoever trusts them."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.corpora.hostile import Evil

_FLOATS = {"dtype": "F32", "shape": [2]}


def contents(trace: Path) -> dict[str, bytes]:
    """What each file holds, by what is wrong with it; unpickled, some make the folder `trace`."""
    entry = {**_FLOATS, "data_offsets": [0, 8]}
    overlapping = {"a": entry, "b": {**_FLOATS, "data_offsets": [4, 12]}}
    return {
        "nothing": b"",
        "a pickle": pickle.dumps(Evil(trace)),
        "a pickle in torch's archive": _torch({"state_dict": Evil(trace)}),
        "a pickle in torch's old format": _torch(Evil(trace), new=False),
        "objects in .npy": _npy(np.array([Evil(trace)], dtype=object)),
        "objects in .npz": _npz(first=np.array([Evil(trace)], dtype=object)),
        "a bomb in .npz": _bomb(),
        "a header without end": struct.pack("<Q", 2**60) + b"{}",
        "a header past the end": struct.pack("<Q", 1000) + b'{"a":',
        "a header that is no JSON": struct.pack("<Q", 4) + b"\xff\xfe{}",
        "a header that is a list": _tensors([]),
        "a nested header": _framed(b'{"a":' * 5000 + b"1" + b"}" * 5000, b""),
        "overlapping tensors": _tensors(overlapping, bytes(12)),
        "a hole between tensors": _tensors({"a": {**_FLOATS, "data_offsets": [4, 12]}}, bytes(12)),
        "a tensor past the end": _tensors({"a": entry}, bytes(4)),
        "a tensor of negative length": _tensors(
            {"a": {**_FLOATS, "data_offsets": [8, 0]}}, bytes(8)
        ),
        "a shape that does not fit": _tensors({"a": {**entry, "shape": [2**40]}}, bytes(8)),
        "a shape that overflows": _tensors({"a": {**entry, "shape": [2**33, 2**33]}}, bytes(8)),
        "an unknown type": _tensors({"a": {**entry, "dtype": "PICKLE"}}, bytes(8)),
        "more than the header tells": _tensors({"a": entry}, bytes(64)),
    }


def _framed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _tensors(header: Mapping[str, Any] | list[Any], data: bytes = b"") -> bytes:
    """A file of safetensors with this header."""
    return _framed(json.dumps(header).encode(), data)


def _torch(value: object, *, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def _bomb() -> bytes:
    """An archive whose two members say that they unpack to nearly 4 GiB each."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.npy", "b.npy"):
            archive.writestr(name, _npy(np.zeros(1000)))
    content = bytearray(buffer.getvalue())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(content)

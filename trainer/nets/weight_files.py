"""Published weights, as strangers give them: safetensors, NumPy's archives, torch's files.

Nothing in them is unpickled, and nothing is unpacked that would fill the memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".tar")
MOST_BYTES = 4 << 30
"""What an archive may hold when unpacked: several times the largest network here (VGGFace)."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, .npz, or a torch file; nothing that needs unpickling.

    A torch file may wrap them as `state_dict`. ValueError when the file is not there or not that.
    """
    if not path.is_file():
        raise ValueError(f"system.identity_network: there is no file {path}")
    try:
        _refuse_bomb(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers of damaged files raise nearly every type there is
        raise _unreadable(path, error) from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValueError(f"{path} holds no tensors by name")
    return dict(found)


def _refuse_bomb(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MOST_BYTES:
        raise ValueError(f"it would unpack to {unpacked} bytes; at most {MOST_BYTES} are taken")


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(f"{path} cannot be read as weights: {reason}")

"""Files of tensors that are in place only when whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Atomic, and on the disk when it returns. OSError where that refuses; no part of it stays."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
            draft,
            metadata,
        )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written: {error}") from error

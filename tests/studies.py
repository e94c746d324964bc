"""What tests of the search begin with."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import optuna


@cache
def blank_database() -> bytes:
    """Optuna's tables, which take longer to make than what is tested."""
    with tempfile.TemporaryDirectory() as folder:
        optuna.storages.RDBStorage(f"sqlite:///{folder}/blank.db").engine.dispose()
        return Path(folder, "blank.db").read_bytes()

"""A home in which PostgreSQL can run; a test is skipped where it is not installed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import postgres


@contextmanager
def open_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that the account of PostgreSQL may enter, which pytest's folders forbid."""
    try:
        postgres._program("initdb")
    except ValueError as error:
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="mien-test-"))
    folder.chmod(0o711)
    monkeypatch.setenv("MIEN_HOME", str(folder))
    try:
        yield folder
    finally:
        postgres.stop(folder / "postgres")
        shutil.rmtree(folder)

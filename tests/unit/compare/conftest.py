"""The tests of a file compare runs in an MLflow of their own, in a home of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compared import three_systems
from tuning.compare import compare
from tuning.rows import Comparison


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; the home is its own too, for as long as the file's tests last."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(folder))
        yield f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def ranked(store: str) -> Comparison:
    """Three systems side by side."""
    return compare(store, three_systems(store))

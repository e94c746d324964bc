"""Unit tests share an MLflow, and never meet the Ray that an integration test has left running."""

from __future__ import annotations

import pytest
import ray

from cluster.mlflow_store import ensure_store


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an MLflow: a file, which takes seconds to make."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    ensure_store(uri)
    return uri

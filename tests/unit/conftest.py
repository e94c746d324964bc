"""Unit tests never meet the Ray that an integration test has left running in their process."""

from __future__ import annotations

import pytest
import ray


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

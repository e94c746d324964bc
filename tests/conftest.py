"""What all tests share: a home of their own, few threads, and one Ray for those that ask for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from cluster.session import Session, connect

RAY_FIXTURE = "ray_session"

# The same examples every time, and no failure for a machine that is busy with something else.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests that use the shared Ray run in one process, however many there are."""
    for item in items:
        if RAY_FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that a test makes lands in the home or the cache of whoever runs it."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MIEN_STUDIES", raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def quick_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges that learn next to nothing, for where it counts that they are asked."""
    from tests.made_runs import shorten_judges

    shorten_judges(monkeypatch, 32)


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A local Ray with two CPUs, started once."""
    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(folder / "home"))
        patch.setenv("MIEN_CACHE", str(folder / "cache"))
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("MIEN_STUDIES", raising=False)
        with connect(num_cpus=2, log_file=folder / "ray.log") as session:
            yield session

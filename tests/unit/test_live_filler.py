"""What is asked of Ray for the actor that makes faces beside a training."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster import session
from cluster.resources import Capacity
from tests.made_runs import recorded
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.synthetic import live_pool


class Asked:
    """Stands for Ray: keeps the options of the actor, and what becomes of it."""

    def __init__(self) -> None:
        self.capacity = Capacity(cpus=8)
        self.options: dict[str, Any] = {}
        self.filled: Path | None = None
        self.killed = False

    def remote(self, **options: Any) -> Any:
        self.options = options
        actor = type("Actor", (), {"fill": self._method(self._fill)})
        return lambda made: type("Class", (), {"remote": staticmethod(lambda: actor)})

    def _method(self, call: Any) -> Any:
        return type("Method", (), {"remote": staticmethod(call)})

    def _fill(self, directory: Path) -> str:
        self.filled = directory
        return "under way"

    def kill(self, actor: Any) -> None:
        self.killed = True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stand_in = Asked()
    monkeypatch.setattr(session, "connect", lambda log_file: nullcontext(stand_in))
    monkeypatch.setattr(ray, "remote", stand_in.remote)
    monkeypatch.setattr(ray, "kill", stand_in.kill)
    monkeypatch.setattr(ray, "wait", lambda waited, timeout: ([], waited))
    return stand_in


@pytest.mark.parametrize(
    ("settings", "address", "gpus", "share", "shown"),
    [
        ({}, None, 0, 0.0, ""),
        ({}, None, 1, 0.0, "0"),
        ({}, None, 4, 0.0, "1"),
        ({}, "head:6379", 1, 0.0, ""),
        ({}, "head:6379", 2, 1.0, None),
        ({"engine.workers": 2}, None, 2, 0.0, ""),
        ({"engine.workers": 2}, None, 3, 1.0, None),
        ({"engine.zero": 1}, None, 1, 0.0, ""),
        ({"engine.workers": 4, "engine.least_workers": 2}, "head:6379", 3, 0.0, ""),
    ],
)
def test_the_generator_has_a_gpu_where_the_workers_leave_one(
    settings: dict[str, Any],
    address: str | None,
    gpus: int,
    share: float,
    shown: str | None,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    asked.capacity = Capacity(cpus=8, gpus=gpus)
    run = with_overrides(catalog.recipe("baseline.tiny"), settings)
    job = recorded(run, live="maker")
    with live_pool.synthesising(job):
        assert asked.filled == job.directory and not asked.killed
    assert asked.killed
    own = asked.options
    assert (own["num_cpus"], own["num_gpus"]) == (0, share)
    assert own["runtime_env"]["env_vars"].get("CUDA_VISIBLE_DEVICES") == shown
    assert own["max_restarts"] == own["max_task_retries"] == 3


def test_the_generator_takes_the_second_of_the_devices_that_are_shown_here(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    asked.capacity = Capacity(cpus=8, gpus=2)
    with live_pool.synthesising(recorded(catalog.recipe("baseline.tiny"), live="maker")):
        pass
    assert asked.options["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_run_without_live_faces_asks_for_nothing(asked: Asked) -> None:
    with live_pool.synthesising(recorded(catalog.recipe("baseline.tiny"))):
        pass
    assert not asked.options

"""A run of one worker is trained on the cluster that `RAY_ADDRESS` names, if it names one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from tests.made_runs import recorded
from trainer import catalog, group, launch

RUN = catalog.recipe("baseline.tiny")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where runs were trained."""
    found: list[str] = []

    def here(*given: Any) -> Any:
        found.append("here")
        yield from ()

    monkeypatch.setattr(launch, "work_in_steps", here)
    monkeypatch.setattr(group, "train_on_ray", lambda job: found.append("on Ray"))
    monkeypatch.setattr(launch.RunResult, "read", lambda directory: None)
    recorded(RUN)
    return found


def train(**options: Any) -> None:
    launch.train(RUN, Path("lake"), resume="aaaa", **options)


def test_without_an_address_it_stays_here(trained: list[str]) -> None:
    train()
    assert trained == ["here"]


def test_with_an_address_it_goes_there(trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    train()
    assert trained == ["on Ray"]


def test_what_a_search_watches_stays_in_its_process(
    trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    train(on_validation=lambda images, metrics: False)
    assert trained == ["here"]


def test_a_process_of_the_cluster_sends_nothing_away(
    trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    train()
    assert trained == ["here"]

"""What a validation decides of a run."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from trainer import between


@pytest.mark.parametrize(
    ("prune", "images", "status"),
    [
        (False, 50, "running"),
        (False, 200, "early"),
        (True, 50, "pruned"),
        (True, 200, "pruned"),
    ],
)
def test_a_run_that_is_given_up_does_not_count_as_ended_by_its_patience(
    monkeypatch: pytest.MonkeyPatch, prune: bool, images: int, status: str
) -> None:
    for name in ("validation_predictions", "validation_metrics", "_keep_best", "peek_if_asked"):
        monkeypatch.setattr(between, name, lambda *given: {})
    monkeypatch.setattr(between, "pause", lambda session: contextlib.nullcontext())
    evaluation = SimpleNamespace(patience=100)
    session: Any = SimpleNamespace(
        training=SimpleNamespace(progress=SimpleNamespace(images=images)),
        world=SimpleNamespace(leads=True, broadcast_object=lambda value: value),
        job=SimpleNamespace(run=SimpleNamespace(evaluation=evaluation)),
        on_validation=lambda images, metrics: prune,
        **dict.fromkeys(("spec", "data", "lake", "tracker")),
        status="running",
        best_images=0,
    )
    between._validate(session)
    assert session.status == status

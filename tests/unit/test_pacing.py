"""Pauses of Ray Data's scheduler: longer while a block waits, short again when it was taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from data_service.streaming import pacing


def test_pauses_grow_while_a_block_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: 5.0)
    monkeypatch.setattr(pacing, "time", clock)
    waiting = [True] * 7 + [False, True]
    queue = SimpleNamespace(has_next=lambda: waiting.pop(0))
    executor = SimpleNamespace(_output_node=(None, SimpleNamespace(output_queue=queue)))
    pause = pacing.Pause()
    for _ in range(9):
        pause.on_execution_step(executor)  # pyright: ignore[reportArgumentType]
    shortest, longest = pacing.SHORTEST_SECONDS, pacing.LONGEST_SECONDS
    assert slept[:3] == pytest.approx([shortest, 2 * shortest, 4 * shortest])
    assert slept[6] == longest == max(slept)
    assert slept[7:] == pytest.approx([shortest, shortest])

"""Checks of a cluster: a node that never answers is told of and holds nothing up."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import nodes

SILENT = object()


class Node:
    """Answers at once, or never to the questions in `silent`."""

    def __init__(self, *silent: str) -> None:
        self._silent = silent

    def __getattr__(self, question: str) -> Any:
        answers = {"clock": time.time(), "mark": "", "marks": ["a", "b"]}
        given = SILENT if question in self._silent else answers[question]
        return SimpleNamespace(remote=lambda *arguments: given)


class NoAnswerError(Exception):
    pass


def get(answer: Any, *, timeout: float) -> Any:
    """As `ray.get`, which without a timeout would wait for ever."""
    if answer is SILENT:
        raise NoAnswerError
    return answer


RAY = SimpleNamespace(
    get=get, wait=lambda *rest, **options: None, exceptions=SimpleNamespace(RayError=NoAnswerError)
)


@pytest.mark.parametrize(
    ("question", "check"), [("clock", nodes._clocks), ("mark", nodes._storage)]
)
def test_a_node_that_hangs_is_told_of_and_asked_no_more(question: str, check: Any) -> None:
    probes = {"a": Node(), "b": Node(question)}
    found = {one.name: one for one in check(RAY, probes)}
    assert found[f"b: {question}"].state == "fail"
    assert "no answer within" in found[f"b: {question}"].found
    assert any(name.startswith("a: ") and one.state == "ok" for name, one in found.items())
    assert list(probes) == ["a"]

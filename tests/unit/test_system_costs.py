"""What every system costs: which lake each of them is measured on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import systems
from trainer import catalog


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Calls the program and gives the lake of every system; nothing is measured."""
    taken: dict[str, Path] = {}

    def alone(name: str, lake: Path, arguments: Any) -> dict[str, Any]:
        taken[name] = lake
        return {}

    def call(*words: str) -> dict[str, Path]:
        given = ["systems", "tiny", "LAKE", "--out", str(tmp_path / "costs.json"), *words]
        monkeypatch.setattr(sys, "argv", given)
        systems.main()
        return taken

    monkeypatch.setattr(systems, "_alone", alone)
    monkeypatch.setattr(systems, "environment", dict)
    return call


def test_only_systems_of_unaligned_faces_are_measured_on_scenes(measured) -> None:
    taken = measured("--scenes", "SCENES")
    unaligned = {name for name in catalog.names() if systems.takes_unaligned(name, "tiny")}
    assert set(taken) == set(catalog.names()) > unaligned >= {"paw"}
    assert {name for name, lake in taken.items() if lake == Path("SCENES")} == unaligned


def test_scenes_that_are_missing_are_asked_for(measured, capsys) -> None:
    assert measured("--systems", "baseline") == {"baseline": Path("LAKE")}
    with pytest.raises(SystemExit):
        measured("--systems", "paw")
    assert "paw: faces that nobody aligned are needed; give --scenes" in capsys.readouterr().err

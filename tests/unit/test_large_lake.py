"""The benchmark of lakes larger than memory: who is watched, and what a run cut off leaves."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import large_lake
from benchmarks.limited import Group, limited
from data_service.lakes.mapped import LARGE_BYTES


def test_without_a_limit_a_command_and_what_it_starts_are_watched() -> None:
    peaks: dict[str, float] = {}
    with limited(0) as group:
        assert group.folder is None
        assert group.run(["sh", "-c", "sleep 1.2 & wait; echo told"], peaks) == "told\n"
    assert len({name.split("#")[1] for name in peaks}) >= 2 and max(peaks.values()) > 0


def test_the_small_lake_is_read_as_one_that_fits() -> None:
    face_bytes = large_lake.FACE**2 * 3
    assert 200_000 // large_lake.SMALL * face_bytes < 0.6 * LARGE_BYTES


def test_a_run_cut_off_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nine_faces = type("Faces", (SimpleNamespace,), {"__len__": lambda _: 9})
    lake = nine_faces(path=tmp_path, manifest=SimpleNamespace(num_bytes=5 << 20))
    order: list[str] = []

    def disk_rate(_: Any) -> float:
        order.append("disk")
        return 2.0**21

    def measured(group: Group, way: str, disk: float, _: Namespace) -> dict:
        order.append(way)
        if way == "mapped":
            raise KeyboardInterrupt
        return {"disk": disk, "folder": group.folder}

    monkeypatch.setattr(large_lake.Lake, "open", lambda _: lake)
    monkeypatch.setattr(large_lake, "_file", Path)
    monkeypatch.setattr(large_lake, "disk_rate", disk_rate)
    monkeypatch.setattr(large_lake, "measured", measured)
    options = Namespace(
        folder=tmp_path,
        limit_mib=0,
        window_mib=1,
        seconds=1.0,
        way=["local window", "mapped"],
        out=tmp_path / "out.json",
    )
    with pytest.raises(KeyboardInterrupt):
        large_lake.measure(options)
    found = json.loads(options.out.read_text())
    assert order == ["disk", "local window", "mapped"]
    assert found["ways"] == {"local window": {"disk": 2.0**21, "folder": None}}
    assert found["disk_mib_per_second"] == 2 and "commit" in found["environment"]

"""Which checkpoints go, and that the last whole one never does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import checkpoint
from trainer.config import CheckpointConfig
from trainer.system import Progress

NOW = 1_000_000.0


def fill(folder: Path, ages_hours: list[float], torn: set[int] | None = None) -> list[Path]:
    """Checkpoints of these ages, the oldest first; those in `torn` are cut in half."""
    made = []
    for number, age in enumerate(ages_hours):
        progress = Progress(step=number, stage_total=1)
        picture = checkpoint.Checkpoint(
            tensors={"player/net/w": torch.full((4,), float(number))}, progress=progress, extra={}
        )
        path = checkpoint.write(folder, picture)
        if number in (torn or ()):
            state = path / "state.safetensors"
            os.truncate(state, state.stat().st_size // 2)
        os.utime(path, (NOW - age * 3600,) * 2)
        made.append(path)
    return made


def left(folder: Path, made: list[Path], rules: CheckpointConfig) -> list[int]:
    gone = checkpoint.expired(folder, rules, NOW)
    return [number for number, path in enumerate(made) if path not in gone]


def test_a_damaged_one_is_written_anew(tmp_path: Path) -> None:
    (path,) = fill(tmp_path, [1], torn={0})
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.read(path)
    assert fill(tmp_path, [1]) == [path]
    assert checkpoint.read(path).tensors["player/net/w"].tolist() == [0.0] * 4
    written = (path / "meta.json").read_bytes()
    fill(tmp_path, [1])
    assert (path / "meta.json").read_bytes() == written, "a whole one stays"


def test_the_newest_stay(tmp_path: Path) -> None:
    made = fill(tmp_path, [4, 3, 2, 1])
    assert left(tmp_path, made, CheckpointConfig(keep=2)) == [2, 3]
    assert left(tmp_path, made, CheckpointConfig(keep=0)) == [3]


def test_the_old_go(tmp_path: Path) -> None:
    made = fill(tmp_path, [4, 3, 2, 1])
    assert left(tmp_path, made, CheckpointConfig(keep=4, keep_hours=2.5)) == [2, 3]


def test_the_last_whole_one_stays_though_it_is_old_and_beyond_the_count(tmp_path: Path) -> None:
    made = fill(tmp_path, [9, 8, 7, 6], torn={2, 3})
    assert left(tmp_path, made, CheckpointConfig(keep=1, keep_hours=1)) == [1]
    assert left(tmp_path, made, CheckpointConfig(keep=1)) == [1, 3]


@settings(max_examples=20)
@given(
    ages=st.lists(st.floats(0, 50), min_size=1, max_size=5).map(lambda ages: sorted(ages)[::-1]),
    torn=st.sets(st.integers(0, 4)),
    keep=st.integers(0, 4),
    hours=st.none() | st.floats(0, 50),
)
def test_what_could_be_resumed_from_can_still_be(
    tmp_path_factory: pytest.TempPathFactory,
    ages: list[float],
    torn: set[int],
    keep: int,
    hours: float | None,
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    made = fill(folder, ages, torn)
    whole = [number for number in range(len(made)) if number not in torn]
    kept = left(folder, made, CheckpointConfig(keep=keep, keep_hours=hours))
    if whole:
        assert whole[-1] in kept
    if hours is None:
        assert kept == sorted({*range(len(made))[-max(keep, 1) :], *whole[-1:]})


def test_a_checkpoint_of_another_format_is_not_whole(tmp_path: Path) -> None:
    older, newer = fill(tmp_path, [2, 1])
    meta = json.loads((newer / "meta.json").read_text())
    (newer / "meta.json").write_text(json.dumps({**meta, "format_version": 99}))
    assert checkpoint.expired(tmp_path, CheckpointConfig(keep=1), NOW) == []
    assert older.exists()

"""What saving may cost: pictures stand while the training goes on, and dear ones come seldom."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer import checkpoint
from trainer.config import CheckpointConfig
from trainer.system import Progress


def picture(seconds: float = 0.0) -> checkpoint.Checkpoint:
    return checkpoint.Checkpoint(
        tensors={"player/net/w": torch.zeros(4)},
        progress=Progress(step=1, stage_total=1),
        extra={},
        seconds=seconds,
    )


def saved(folder: Path, rules: CheckpointConfig, seconds: float) -> checkpoint.Writer:
    writer = checkpoint.Writer(folder, rules)
    writer.submit(picture(seconds))
    writer.wait()
    return writer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time since some day, in seconds, which the test moves."""
    now = [1000.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint.time, "thread_time", lambda: 0.0)
    return now


def test_a_dear_one_is_followed_by_the_next_when_it_has_paid(
    tmp_path: Path, clock: list[float]
) -> None:
    """0.9 s are 3 % of 30 s."""
    writer = saved(tmp_path, CheckpointConfig(), seconds=0.9)
    clock[0] += 29
    assert writer.busy and not writer.writing
    clock[0] += 0.2
    assert not writer.busy


def test_the_writing_counts_by_its_share_of_the_cores(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint.time, "thread_time", lambda: 1.8)
    monkeypatch.setattr(checkpoint, "usable_cpus", lambda: 2)
    writer = saved(tmp_path, CheckpointConfig(), seconds=0.0)
    clock[0] += 29.9
    assert writer.busy
    clock[0] += 0.2
    assert not writer.busy


def test_a_cheap_one_is_not_waited_for(tmp_path: Path) -> None:
    writer = saved(tmp_path, CheckpointConfig(), seconds=0.0)
    writer._rested -= CheckpointConfig().every_seconds
    assert not writer.busy


def test_steps_are_kept_to_whatever_it_costs(tmp_path: Path, clock: list[float]) -> None:
    assert not saved(tmp_path, CheckpointConfig(every_steps=5), seconds=9.0).busy


def test_what_was_written_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its hash; not again to see what may go."""
    read, plain = [], checkpoint._hash
    monkeypatch.setattr(checkpoint, "_hash", lambda path: read.append(path) or plain(path))
    saved(tmp_path, CheckpointConfig(keep=1), seconds=0.0)
    assert len(read) == 1

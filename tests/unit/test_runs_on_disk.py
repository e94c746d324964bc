"""Runs as they lie on a disk that refuses, or beside what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tests.made_runs import recorded
from trainer import catalog, checkpoint, job
from trainer.tensor_files import write_tensors


def test_a_record_of_something_else_is_no_run(own_home: Path) -> None:
    directory = recorded(catalog.recipe("baseline.tiny")).directory
    other = directory.with_name("other")
    other.mkdir()
    (other / "run.json").write_text('{"name": "not mien\'s"}')
    assert [one["directory"] for one in job.records()] == [str(directory)]


def test_a_run_that_is_given_by_a_path_is_found_from_everywhere(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = recorded(catalog.recipe("baseline.tiny")).directory
    monkeypatch.chdir(directory.parent)
    assert job.find(directory.name) == job.find(f"./{directory.name}") == directory.absolute()


def test_weights_that_the_disk_refuses_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("trainer.tensor_files.save_file", full)
    with pytest.raises(OSError, match=r"weights\.safetensors could not be written: No space left"):
        write_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_no_disk_reads_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "000000001").mkdir()

    def unreadable(path: Path) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(checkpoint, "_checked", unreadable)
    assert checkpoint.latest(tmp_path) is None
    assert not checkpoint.is_whole(tmp_path / "000000001")

"""Which errors of a worker end a run for good, and which bring its workers back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer import group


@pytest.mark.parametrize("grouped", [True, False])
def test_what_torch_says_without_its_group_is_no_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Default process group has not been initialized")

    monkeypatch.setattr(group, "work", fail)
    monkeypatch.setattr(group.jobs, "load", lambda directory: None)
    monkeypatch.setattr(group.World, "of_process_group", lambda device: None)
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: grouped)
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="process group"):
        group._worker({"directory": str(tmp_path), "threads": threads})
    assert (tmp_path / group.FAULT).is_file() == grouped


def test_a_host_that_does_not_see_the_run_says_so(tmp_path: Path) -> None:
    gone = {"directory": str(tmp_path / "gone"), "threads": 1}
    with pytest.raises(RuntimeError, match=r"^host \S+ does not see .*gone; MIEN_HOME must"):
        group._worker(gone)

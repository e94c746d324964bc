"""Runs as they lie on a disk that refuses, or beside what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tests.made_runs import recorded
from trainer import catalog, checkpoint, job, runs
from trainer.crossval_job import CrossvalJob
from trainer.tensor_files import write_tensors

RUN = catalog.recipe("baseline.tiny")


def test_a_record_of_something_else_is_no_run(own_home: Path) -> None:
    directory = recorded(RUN).directory
    other = directory.with_name("other")
    other.mkdir()
    (other / "run.json").write_text('{"name": "not mien\'s"}')
    assert [one["directory"] for one in job.records()] == [str(directory)]


def test_a_run_that_is_given_by_a_path_is_found_from_everywhere(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = recorded(RUN).directory
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


@pytest.mark.parametrize("name", ["", " "])
@pytest.mark.parametrize("ask", [job.find, runs.stop, CrossvalJob.find])
def test_a_name_that_is_empty_names_no_run(
    ask: Callable[[str], object], name: str, own_home: Path
) -> None:
    directory = recorded(RUN).directory
    job.set_status(directory, "running")
    crossval("bbbb").save()
    with pytest.raises(ValueError, match="RUN is empty; valid: the id of a run"):
        ask(name)
    assert not (directory / "stop").exists()


def crossval(run_id: str) -> CrossvalJob:
    return CrossvalJob(
        run_id=run_id,
        directory=job.runs_dir() / run_id,
        run=RUN,
        lake=Path("lake"),
        lake_hash="",
        folds=3,
        tracking_uri="",
        experiment="test",
    )


def test_a_cross_validation_is_no_run(own_home: Path) -> None:
    made = crossval("bbbb")
    made.save()
    for name in ("bbbb", "bb", str(made.directory)):
        with pytest.raises(ValueError, match=r"crossval --resume bbbb; the runs .*: none yet"):
            job.find(name)
    recorded(RUN, "cccc", parent="bbbb", fold="2/3")
    with pytest.raises(ValueError, match=r"bbbb is a cross-validation; .*: cccc \(2/3\)"):
        runs.stop("bbbb")
    with pytest.raises(ValueError, match="there is no run 'dddd'"):
        job.find("dddd")


@pytest.mark.parametrize("lost", ["created", "fold", "experiment", "run"])
def test_a_record_that_lacks_something_is_told(lost: str, own_home: Path) -> None:
    directory = recorded(RUN).directory
    values = job.read_json(directory / "run.json")
    del values[lost]
    job.write_json(directory / "run.json", values)
    with pytest.raises(ValueError, match=f"run.json is not what mien writes: '{lost}'"):
        runs.stop("aaaa")
    assert runs.rows() == []


def test_a_status_that_lacks_something_is_none(own_home: Path) -> None:
    directory = recorded(RUN).directory
    job.write_json(directory / "status.json", {"state": "running"})
    assert [one["state"] for one in runs.rows()] == ["lost"]

"""Copies of checkpoints at an address: a run goes on from them where its home is lost."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
from pathlib import Path

import pytest
import torch

from cluster.home import runs_dir
from cluster.storage import Place, address_of
from data_service.synthesis.pool import pool_place
from tests.made_runs import recorded
from trainer import catalog, checkpoint, copies, job, session
from trainer.checkpoint import Checkpoint, Writer
from trainer.config import CheckpointConfig
from trainer.overrides import with_overrides
from trainer.system import Progress

RUN = "0123456789abcdef0123456789abcdef"


def picture(step: int) -> Checkpoint:
    return Checkpoint(tensors={"x": torch.tensor([step])}, progress=Progress(step=step), extra={})


@pytest.fixture
def run(own_home: Path) -> Path:
    """A run with three checkpoints, of which each has been copied."""
    directory = runs_dir() / RUN
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps({"run_id": RUN}))
    return directory


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'away'}"


def copied(run: Path, address: str, *steps: int) -> Path:
    """Where the copies of these steps lie."""
    copies.begin(address, run)
    for step in steps:
        (run / "best.safetensors").write_bytes(b"best of %d" % step)
        copies.send(address, run, checkpoint.write(run / "checkpoints", picture(step)), keep=2)
    return Path(address.removeprefix("file://")) / RUN


def test_a_lost_home_has_the_newest_again(run: Path, address: str) -> None:
    there = copied(run, address, 1, 2, 3)
    assert [path.name for path in sorted((there / "checkpoints").iterdir())] == [
        "000000002",
        "000000003",
    ]
    shutil.rmtree(run)
    assert job.find(f"{address}/{RUN}") == run
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None and found.progress.step == 3
    assert (run / "best.safetensors").read_bytes() == b"best of 3"
    assert sorted(path.name for path in run.iterdir()) == [
        "best.safetensors",
        "checkpoints",
        "run.json",
    ]


@pytest.mark.parametrize("damage", ["meta.json is gone", "state.safetensors is torn"])
def test_a_copy_that_is_not_whole_is_passed_over(run: Path, address: str, damage: str) -> None:
    there = copied(run, address, 1, 2)
    name, _, torn = damage.partition(" is ")
    file = there / "checkpoints" / "000000002" / name
    file.write_bytes(file.read_bytes()[:-1]) if torn == "torn" else file.unlink()
    shutil.rmtree(run)
    copies.bring(f"{address}/{RUN}")
    assert [path.name for path in checkpoint.saved(run / "checkpoints")] == ["000000001"]


def test_what_is_newer_here_stays(run: Path, address: str) -> None:
    copied(run, address, 1)
    checkpoint.write(run / "checkpoints", picture(5))
    (run / "best.safetensors").write_bytes(b"best of 5")
    copies.bring(f"{address}/{RUN}")
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None and found.progress.step == 5
    assert (run / "best.safetensors").read_bytes() == b"best of 5"


def test_what_is_damaged_here_is_brought_again(run: Path, address: str) -> None:
    there = copied(run, address, 1, 2)
    (there / "checkpoints" / "notes").mkdir()
    state = run / "checkpoints" / "000000002" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    copies.bring(f"{address}/{RUN}")
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None and found.progress.step == 2


def test_what_is_no_run_is_told(run: Path, address: str) -> None:
    with pytest.raises(ValueError, match=r"no run at file:///.*: there is no run\.json"):
        job.find(f"{address}/{RUN}")
    there = copied(run, address, 1)
    there.rename(there.with_name("other"))
    with pytest.raises(ValueError, match=f"its run.json is that of run {RUN}"):
        copies.bring(f"{address}/other")


def test_what_is_no_pool_is_told(address: str) -> None:
    with pytest.raises(ValueError, match=r"no sealed pool at file:///.*: it has no manifest\.json"):
        pool_place(address)


def test_a_service_that_refuses_ends_no_training(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(saved: Path) -> None:
        raise OSError("no such bucket")

    writer, told = Writer(run / "checkpoints", CheckpointConfig(), refuse), []
    with caplog.at_level(logging.ERROR):
        writer.submit(picture(1), told.append)
        writer.wait()
    assert writer.error is None and [one.step for one in told] == [1]
    assert "000000001 is not copied: no such bucket" in caplog.text


def test_a_place_that_cannot_be_written_is_told_before_the_run_begins(
    tmp_path: Path, address: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"checkpoint\.copy_to: file://.* cannot be written"):
        copies.check(f"file://{tmp_path / 'file'}")
    with pytest.raises(ValueError, match="pyarrow cannot read nosuch://"):
        copies.check("nosuch://host/x")
    copies.check(address)
    assert not list((tmp_path / "away").iterdir())


def test_the_machine_that_writes_the_copies_is_told_where_it_cannot(tmp_path: Path) -> None:
    """Rank 0 may be on another machine than the driver, with other variables."""
    (tmp_path / "file").write_text("")
    values = {"checkpoint.copy_to": f"file://{tmp_path / 'file'}"}
    begun = recorded(with_overrides(catalog.recipe("baseline.tiny"), values))
    says = rf"^{re.escape(socket.gethostname())}: checkpoint\.copy_to: .*; .* before `ray start` on"
    with pytest.raises(ValueError, match=says):
        session._writer(begun)
    checkpoint.write(begun.checkpoints, picture(1))
    assert session._writer(begun).copy is not None, "a run that goes on is not ended by that"


def test_a_name_that_leads_out_is_no_run(run: Path, address: str) -> None:
    there = copied(run, address, 1)
    (there / "run.json").write_text(json.dumps({"run_id": ".."}))
    (there / "x").mkdir()
    with pytest.raises(ValueError, match=r"its run\.json is that of run \.\."):
        copies.bring(f"{address}/{RUN}/x/..")
    assert not (runs_dir() / ".." / "run.json").exists()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        ("file:///tmp/a", "file:///tmp/a"),
        (Path("file:///tmp/a"), "file:///tmp/a"),
        ("/tmp/a", None),
        ("live:3f2a", None),
        ("3f2a", None),
        (None, None),
    ],
)
def test_addresses_are_told_from_paths(text: str | Path | None, address: str | None) -> None:
    assert address_of(text) == address


def test_a_deeper_place_keeps_what_its_service_was_told() -> None:
    place = Place(address="s3://bucket/a?region=x", files=None, path="bucket/a") / "b"
    assert (place.address, place.path, place.name) == (
        "s3://bucket/a/b?region=x",
        "bucket/a/b",
        "b",
    )

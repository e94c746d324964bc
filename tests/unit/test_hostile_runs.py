"""Weights, checkpoints, runs and lakes of strangers: refused in one line, and nothing is touched.

Nothing in them is unpickled, no file outside of them is read, written or removed, and nothing is
unpacked that is larger than it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mien
from cluster import terminal
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo, Expression
from tests.corpora import hostile_weights
from tests.made_runs import recorded
from trainer import catalog, checkpoint, job, launch
from trainer.nets.identity_source import load_identity
from trainer.nets.weight_files import SUFFIXES
from trainer.overrides import with_overrides
from trainer.system import Progress
from trainer.tracking.outbox import Outbox

HOSTILE = list(hostile_weights.contents(Path("unused")))
INFO = DatasetInfo(
    classes=(Expression.ANGER, Expression.NEUTRAL), image_size=32, channels=3, subjects=4
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A folder that is there as soon as something was unpickled."""
    return tmp_path / "unpickled"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=56, options={"subjects": 6, "faces_per_subject": 8})
    return path


def refused(action: Callable[[], Any], match: str) -> None:
    """The action raises a ValueError of one line."""
    with pytest.raises(ValueError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", HOSTILE)
def test_weights(what: str, trace: Path, tmp_path: Path) -> None:
    """As the file of --init, and as the weights of a run."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(hostile_weights.contents(trace)[what])
    refused(lambda: checkpoint.load_weights(path), "is no whole weights file")
    assert not trace.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", HOSTILE)
def test_an_identity_network(what: str, suffix: str, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / f"published{suffix}"
    path.write_bytes(hostile_weights.contents(trace)[what])
    refused(lambda: load_identity(str(path), INFO, shape="lightcnn9", width=1.0), "published")
    assert not trace.exists()


def saved(folder: Path) -> Path:
    """A whole checkpoint of nothing."""
    empty = checkpoint.Checkpoint(tensors={"a": torch.zeros(2)}, progress=Progress(), extra={})
    return checkpoint.write(folder, empty)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_checkpoint_whose_hash_is_right(what: str, trace: Path, tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = hostile_weights.contents(trace)[what]
    (path / "state.safetensors").write_bytes(content)
    meta = json.loads((path / "meta.json").read_text())
    meta["hash"] = hashlib.blake2b(content).hexdigest()
    (path / "meta.json").write_text(json.dumps(meta))
    refused(lambda: checkpoint.read(path), "is no whole weights file")
    assert not trace.exists()


@pytest.mark.parametrize(
    "meta",
    [
        "",
        "[]",
        "null",
        "{" * 20_000,
        '{"format_version": 1}',
        '{"format_version": 1, "hash": 1}',
        '{"format_version": 99}',
    ],
)
def test_what_a_checkpoint_says_of_itself(meta: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    (path / "meta.json").write_text(meta)
    refused(lambda: checkpoint.read(path), str(path))


@pytest.mark.parametrize("change", [{"progress": {"step": 1, "path": "/"}}, {"progress": 3}])
def test_progress_that_is_none(change: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | change))
    refused(lambda: checkpoint.read(path), "is not what mien writes")


def test_links_in_a_checkpoint(tmp_path: Path) -> None:
    whole, path = saved(tmp_path / "whole"), saved(tmp_path / "own")
    (path / "state.safetensors").unlink()
    (path / "state.safetensors").symlink_to(whole / "state.safetensors")
    refused(lambda: checkpoint.read(path), "is a link")
    beside = path.with_name("000000009")
    beside.symlink_to(whole)
    refused(lambda: checkpoint.read(beside), "is a link")
    assert checkpoint.latest(path.parent) is None


@pytest.fixture
def run(lake: Path, own_home: Path) -> job.Job:
    """A run that was broken off, with a checkpoint that is none of its system."""
    return recorded(
        with_overrides(catalog.recipe("identity.tiny"), {"system.images": 64}),
        "0123456789abcdef",
        lake=lake,
        lake_hash=Lake.open(lake).hash,
        face_pixels=56,
        tracking_uri=f"sqlite:///{own_home / 'mlflow.db'}",
    )


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `mien`, which must refuse its input; the one line that it says."""

    def refuse(*words: object) -> str:
        argv = list(map(str, words))
        code = terminal.run(lambda: mien.app(argv, prog_name="mien", standalone_mode=False))
        said = capsys.readouterr().err.strip()
        assert code == terminal.WRONG_INPUT, said
        assert "Traceback" not in said
        return " ".join(said.split())

    return refuse


def test_resume_takes_no_stranger(
    call, run: job.Job, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "deliver", lambda *told, **options: True)
    path = saved(run.checkpoints)
    assert "the tensors do not fit" in call("train", "--resume", run.run_id)
    (path / "state.safetensors").write_bytes(hostile_weights.contents(trace)["a pickle"])
    assert "is damaged" in call("train", "--resume", run.run_id)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["evil.pt", "evil.pkl", "evil.npy", "evil.safetensors"])
def test_init_and_teacher_take_no_pickles(
    call, name: str, lake: Path, trace: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(hostile_weights.contents(trace)["a pickle in torch's archive"])
    train = ("train", "identity.tiny", "--lake", lake, "--fold", "1/3")
    said = call(*train, "--init", path)
    assert "is no whole weights file" in said or "there is no run" in said
    student = ("train", "occlusion_distillation.tiny", "--lake", lake, "--fold", "1/3")
    assert str(path) in call(*student, "--set", f"system.teacher={path}")
    assert not trace.exists()


@pytest.mark.parametrize("file", ["journal.jsonl", "log.txt", "checkpoints"])
def test_a_run_with_a_link_that_leads_out(call, file: str, run: job.Job, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.mkdir() if file == "checkpoints" else outside.write_text("precious")
    (run.directory / file).symlink_to(outside)
    assert "leads out of the run's directory" in call("train", "--resume", run.run_id)
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "precious"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 1}', "{" * 20_000, "\udcff"])
def test_a_run_that_is_none(text: str, run: job.Job) -> None:
    (run.directory / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(lambda: job.load(run.directory), "run.json")


def test_a_journal_sends_and_removes_nothing_of_others(tmp_path: Path) -> None:
    outside = tmp_path / "precious.png"
    outside.write_text("precious")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.parent.mkdir()
    picture = {"kind": "picture", "key": "samples", "step": 5, "time_ms": 1}
    lines = [
        {**picture, "file": "../../precious.png"},
        {**picture, "file": str(outside)},
        {"kind": "file", "path": str(outside), "folder": None},
        {"kind": "file", "path": str(journal.parent / ".." / "precious.png"), "folder": None},
        {"kind": "sent", "path": str(outside), "folder": None},
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outbox = Outbox(journal)
    outbox.rollback(0)
    outbox.commit_all()
    assert not outbox.due and outside.read_text() == "precious"


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "exec"}', '{"kind": "commit"}', "\x00"])
def test_a_journal_that_is_none(line: str, tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text(line + "\n")
    refused(lambda: Outbox(tmp_path / "journal.jsonl"), "line 1 of .*journal.jsonl")


def told(lake: Path, **changes: Any) -> None:
    """Let the lake's manifest say something else."""
    manifest = json.loads((lake / "manifest.json").read_text())
    file = changes.pop("file", {})
    manifest["files"][0] |= file
    (lake / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"hash": "../../../evil"},
        {"hash": ""},
        {"file": {"name": "../faces-00000-0.parquet"}},
        {"file": {"name": "/etc/passwd"}},
        {"file": {"name": "faces-0.parquet\x00"}},
    ],
)
def test_a_lake_that_leads_out_of_its_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    options = {"subjects": 1, "faces_per_subject": 8}
    ingest("drawn", None, tmp_path / "lake", image_size=48, options=options)
    told(tmp_path / "lake", **changes)
    refused(lambda: Lake.open(tmp_path / "lake"), "damaged lake")


def test_a_lake_that_holds_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "lake"
    ingest("drawn", None, path, image_size=48, options={"subjects": 1, "faces_per_subject": 8})
    told(path, count=1, file={"rows": 1}, hash="0" * 32)
    refused(lambda: Lake.open(path).faces, "does not hold 1 faces")

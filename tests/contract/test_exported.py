"""Every system that recognises, makes or reads something is the same as ONNX and torch.export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract import batches as made_of
from tests.made_runs import finished, recorded
from trainer import catalog
from trainer.feed import WITHOUT_CLASSES
from trainer.inference import export
from trainer.loop import fit
from trainer.restore import LoadedSystem
from trainer.world import World

NAMES = [name for name in catalog.names() if set(export.OUTPUTS) & catalog.load(name).capabilities]
UNTOLD = [name for name in NAMES if catalog.load(name).capabilities <= WITHOUT_CLASSES]
BY_LANDMARKS = [
    name
    for name in NAMES
    if "landmarks" in catalog.load(name).data(made_of.tiny(name).system).fields
]


def trained(name: str) -> LoadedSystem:
    """The tiny recipe after a step of every stage, on the contract's batches."""
    run = made_of.tiny(name)
    training = made_of.training(run, World.alone(), steps_per_stage=1)
    for _ in fit(training, made_of.batches(training)):
        pass
    fields = made_of.needs_of(training, 0).fields
    info = replace(
        made_of.info_of(run), landmarks=made_of.INFO.landmarks if "landmarks" in fields else 0
    )
    directory = recorded(run, name).directory
    for player in training.players.values():
        player.module.eval().requires_grad_(False)
    return LoadedSystem(
        system=training.system, run=run, info=info, spec=catalog.spec_of(run), directory=directory
    )


@pytest.mark.parametrize("name", NAMES)
def test_both_models_are_the_original(name: str, tmp_path: Path, monkeypatch) -> None:
    """On one face and on three; `export` itself refuses to write what differs."""
    pytest.importorskip("onnxruntime")
    loaded = trained(name)
    monkeypatch.setattr(export, "load_system", lambda _run: loaded)
    done = export.export(name, tmp_path / "model")
    can = catalog.spec_of(loaded.run).capabilities
    assert list(done.outputs) == [export.OUTPUTS[one][0] for one in export.OUTPUTS if one in can]
    assert done.files == ("model.json", "model.onnx", "model.pt2")
    assert set(done.differences) == {"model.onnx", "model.pt2"}
    assert max(done.differences.values()) < export.TOLERANCE


@pytest.mark.parametrize("name", BY_LANDMARKS)
def test_what_reads_68_landmarks_leaves_with_five_too(
    name: str, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("onnxruntime")
    loaded = trained(name)
    five = replace(loaded, info=replace(loaded.info, landmarks=5))
    monkeypatch.setattr(export, "load_system", lambda _run: five)
    done = export.export(name, tmp_path / "model")
    assert "landmarks" in done.inputs and max(done.differences.values()) < export.TOLERANCE


@pytest.mark.parametrize("name", UNTOLD)
def test_what_needs_no_classes_leaves_without_any(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run = made_of.tiny(name)
    info = replace(made_of.info_of(run), classes=(), class_images=(), landmarks=0)
    done = export.export(finished(run, info).name, tmp_path / "model")
    assert done.inputs == ("faces",) and max(done.differences.values()) < export.TOLERANCE

"""What is asked of photographs on a GPU is answered as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_service import corpora
from tests.contract import batches as made_of
from tests.made_runs import finished
from trainer import catalog
from trainer.inference import edit, recognise

DEVICES = ("cuda", "cpu")
LEVELS = 3
"""Of 255, that a pixel may differ by."""
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def that_can(capability: str) -> list[str]:
    """The systems whose tiny recipe has the capability."""
    names = catalog.names()
    return [one for one in names if capability in catalog.spec_of(made_of.tiny(one)).capabilities]


def fresh(name: str) -> str:
    """A run of the system's tiny recipe with fresh weights; its id."""
    run = made_of.tiny(name)
    info = made_of.info_of(run)
    return finished(run, info).name


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """One drawn face as a file."""
    faces = corpora.scan("drawn", None, {"subjects": 1, "faces_per_subject": 8, "size": 128}).faces
    picture = corpora.load("drawn").images(faces[:1])[0]  # type: ignore[attr-defined]
    path = tmp_path / "me.png"
    Image.fromarray(picture).save(path)
    return path


@pytest.mark.parametrize("name", that_can("recognise"))
def test_a_face_is_read_alike(name: str, photograph: Path, monkeypatch) -> None:
    run = fresh(name)
    shares = []
    for device in DEVICES:
        monkeypatch.setattr(recognise, "best_device", lambda device=device: device)
        (one,), _ = recognise.recognise(run, [photograph])
        shares.append(one.confidences)
    assert shares[0] == pytest.approx(shares[1], abs=1e-2)


@pytest.mark.parametrize("name", that_can("synthesise"))
def test_a_face_is_edited_alike(name: str, photograph: Path, monkeypatch) -> None:
    run, out, made = fresh(name), photograph.with_name("out.png"), []
    for device in DEVICES:
        monkeypatch.setattr(edit, "best_device", lambda device=device: device)
        edit.edit(run, photograph, "happiness", out=out, face_only=True)
        made.append(np.array(Image.open(out)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= LEVELS


@pytest.mark.parametrize("name", that_can("transfer"))
def test_an_expression_is_transferred_alike(name: str, photograph: Path, monkeypatch) -> None:
    run, out, made = fresh(name), photograph.with_name("out.png"), []
    for device in DEVICES:
        monkeypatch.setattr(edit, "best_device", lambda device=device: device)
        edit.transfer(run, photograph, photograph, out=out, expression="anger", face_only=True)
        made.append(np.array(Image.open(out)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= LEVELS

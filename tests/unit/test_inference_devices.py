"""Photographs are asked of a run on a GPU where there is one, and answers come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_service.schema import FaceBatch
from tests.contract import batches as made_of
from tests.made_runs import finished
from trainer import restore
from trainer.config import EvaluationConfig
from trainer.inference import edit, recognise, sweep
from trainer.inference.photographs import Photograph, ask, read_expression

IMAGE = Path("me.png")
COMMANDS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "edit": (edit, lambda: edit.edit("aaaa", IMAGE, "fear", out=Path("out.png"))),
    "transfer": (edit, lambda: edit.transfer("aaaa", IMAGE, IMAGE, out=Path("out.png"))),
    "sweep": (sweep, lambda: sweep.sweep("aaaa", IMAGE, out=Path("out.gif"))),
    "recognise": (recognise, lambda: recognise.recognise("aaaa", [IMAGE])),
}
PHOTOGRAPH = Photograph(
    image_HW3=np.zeros((3, 3, 3), np.uint8),
    face_1CSS=torch.zeros(1, 3, 3, 3),
    matrix_23=np.eye(2, 3),
    landmarks_1L3=None,
    alignment="none",
)


class Away:
    """An answer that lies on another device."""

    def cpu(self) -> Tensor:
        return torch.ones(1)


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_best_device_is_a_gpu_where_there_is_one(
    there: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert restore.best_device() == device


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_is_loaded_on_the_best_device(command: str, monkeypatch) -> None:
    def loads(_run: str, _capability: str, device: str = "cpu") -> None:
        raise InterruptedError(device)

    module, call = COMMANDS[command]
    monkeypatch.setattr(module, "load_capable", loads)
    monkeypatch.setattr(module, "best_device", lambda: "a GPU")
    with pytest.raises(InterruptedError, match="a GPU"):
        call()


def test_a_loaded_system_tells_where_it_lies(own_home: Path) -> None:
    run = made_of.tiny("baseline")
    found = finished(run, made_of.info_of(run)).name
    assert restore.load_system(found, "cpu").device == "cpu"
    assert restore.load_system(found, "meta").device == "meta"


@pytest.mark.parametrize("asks", [ask, read_expression])
def test_what_is_asked_goes_there_and_the_answer_comes_back(asks: Any, monkeypatch) -> None:
    moved: list[str] = []

    def to(batch: FaceBatch, device: str) -> str:
        moved.append(device)
        return f"a batch on {device}"

    def predict(batch: Any) -> Any:
        assert batch == "a batch on a GPU"
        return SimpleNamespace(images_BCHW=Away(), logits_BK=Away())

    monkeypatch.setattr(FaceBatch, "to", to)
    loaded = SimpleNamespace(
        system=SimpleNamespace(predict=predict),
        run=SimpleNamespace(evaluation=EvaluationConfig(flip=False)),
        info=SimpleNamespace(attributes=()),
        device="a GPU",
    )
    assert torch.equal(asks(loaded, PHOTOGRAPH), torch.ones(1))
    assert moved == ["a GPU"]

"""What is read in a photograph is what the scorecard would count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mien
from cluster import terminal
from data_service.schema import Expression, FaceBatch, Prediction
from trainer.config import EvaluationConfig
from trainer.inference import edit, recognise
from trainer.inference.photographs import Photograph

CLASSES = (Expression.ANGER, Expression.FEAR, Expression.NEUTRAL)
AS_GIVEN, AVERAGED = (0.5, 0.4, 0.1), (0.3, 0.4, 0.3)
"""How bright the columns of the face are, and those of the mean with its mirror image."""
PHOTOGRAPH = Photograph(
    image_HW3=np.zeros((3, 3, 3), np.uint8),
    face_1CSS=torch.tensor(AS_GIVEN).expand(1, 3, 3, 3),
    matrix_23=np.eye(2, 3),
    landmarks_1L3=None,
    alignment="none",
)


def brightness(batch: FaceBatch) -> Prediction:
    """The logits are how bright the columns are."""
    return Prediction(logits_BK=batch.faces_BCHW.mean(dim=(1, 2)))


def loaded(*, flip: bool) -> Any:
    return SimpleNamespace(
        system=SimpleNamespace(predict=brightness),
        run=SimpleNamespace(evaluation=EvaluationConfig(flip=flip)),
        info=SimpleNamespace(classes=CLASSES, attributes=()),
        spec=SimpleNamespace(capabilities=frozenset({"recognise"})),
        device="cpu",
    )


@pytest.mark.parametrize(("flip", "logits", "label"), [(False, AS_GIVEN, 0), (True, AVERAGED, 1)])
def test_face_and_mirror_image_are_averaged_where_the_run_does(
    flip: bool, logits: tuple[float, ...], label: int
) -> None:
    found = recognise._named(loaded(flip=flip), Path("me.png"), None, PHOTOGRAPH)
    shares = torch.tensor(logits).softmax(0).tolist()
    assert list(found.confidences.values()) == pytest.approx(shares)
    assert found.expression == CLASSES[label] and found.confidence == pytest.approx(shares[label])
    assert edit._shown(loaded(flip=flip), PHOTOGRAPH) == label


@pytest.fixture
def photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a picture, in which anybody sees the same face."""
    viewer = SimpleNamespace(see=lambda _image: PHOTOGRAPH)
    monkeypatch.setattr(recognise, "load_capable", lambda *_: loaded(flip=False))
    monkeypatch.setattr(recognise, "Viewer", lambda _loaded: viewer)
    path = tmp_path / "me.png"
    Image.new("RGB", (3, 3)).save(path)
    return path


def test_one_of_several_that_cannot_be_read_is_refused_and_the_others_count(
    photograph: Path,
) -> None:
    folder = photograph.parent
    (folder / "broken.mp4").write_text("not a video")
    (folder / "empty").mkdir()
    bad = [folder / "lost.png", folder / "broken.mp4", folder / "empty"]
    found, refused = recognise.recognise("aaaa", [photograph, *bad, photograph])
    assert [one.image for one in found] == [str(photograph)] * 2
    assert [one.image for one in refused] == list(map(str, bad))
    for one, why in zip(refused, ("file missing", "not a video", "no picture"), strict=True):
        assert why in one.reason


@pytest.mark.parametrize(("name", "why"), [("lost.png", "file missing"), ("empty", "no picture")])
def test_one_alone_that_cannot_be_read_is_an_error(photograph: Path, name: str, why: str) -> None:
    (photograph.parent / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{name}: .*{why}"):
        recognise.recognise("aaaa", [photograph.parent / name])


def test_the_command_fails_where_nothing_could_be_read(photograph: Path) -> None:
    def code(*sources: str) -> int:
        argv = ["recognise", "aaaa", *(str(photograph.parent / name) for name in sources)]
        return terminal.run(lambda: mien.app(argv, prog_name="mien", standalone_mode=False))

    assert code("lost.png", "gone.png") == terminal.FAILED
    assert code("lost.png", "me.png") == terminal.DONE

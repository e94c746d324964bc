"""What is read in a photograph is what the scorecard would count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

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

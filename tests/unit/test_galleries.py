"""Pictures of a system, from faces whose answers are known; and what a rule that peeks keeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from data_service.schema import DatasetInfo, Expression, FaceBatch, Prediction
from trainer.config import DataConfig, EvaluationConfig
from trainer.peeking import FILE, peek
from trainer.pictures import captioned_faces, face_grid
from trainer.scorecard import galleries
from trainer.scorecard.evaluate import Predictions, read_predictions
from trainer.scorecard.examinee import Examinee
from trainer.system import OptimizerConfig, Player, System
from trainer.world import World

CLASSES = (Expression.ANGER, Expression.HAPPINESS)
RUN: Any = SimpleNamespace(
    data=DataConfig(image_size=8), evaluation=EvaluationConfig(flip=False), seed=0
)
INFO = DatasetInfo(classes=CLASSES, image_size=8, channels=3, subjects=4)


class Painter(System):
    """Gives a face the colour of the class asked for, or of the reference; reads brightness."""

    def __init__(self) -> None:
        self.net, self.bias = nn.Identity(), 0.0
        self.maps: dict[str, torch.Tensor] = {}

    def players(self):
        return (Player(name="net", module=self.net, optimizer=OptimizerConfig()),)

    def stages(self):
        return ()

    def predict(self, batch: FaceBatch) -> Prediction:
        colour_B = batch.target_expression_B.float() * 2 - 1
        if "reference" in batch.partners:
            colour_B = batch.partners["reference"].mean((1, 2, 3))
        level_B = batch.target_intensity_B
        colour_B = colour_B if level_B is None else colour_B * level_B
        faces = batch.faces_BCHW
        bright_B = faces.mean((1, 2, 3)) + self.bias
        return Prediction(
            images_BCHW=colour_B.view(-1, 1, 1, 1).expand_as(faces),
            logits_BK=torch.stack([-bright_B, bright_B], dim=1),
            maps={name: value[: len(batch)] for name, value in self.maps.items()},
        )


@pytest.fixture
def examinee() -> Examinee:
    faces = np.zeros((8, 8, 8, 3), np.uint8)
    faces[1::2] = 255
    table = pa.table(
        {
            "expression": [str(CLASSES[index % 2]) for index in range(8)],
            "subject": [f"s{index // 2}" for index in range(8)],
        }
    )
    mapped = SimpleNamespace(expect=len)
    lake: Any = SimpleNamespace(table=table, faces=faces, mapped=mapped)
    spec: Any = SimpleNamespace(
        capabilities=frozenset({"recognise", "synthesise", "intensity", "transfer"})
    )
    return Examinee(
        system=Painter(),
        spec=spec,
        run=RUN,
        info=INFO,
        lake=lake,
        rows_N=np.arange(8),
        home_lake=lake,
        train_rows_N=np.arange(0),
    )


def predictions(labels: list[int], logits: list[float]) -> Predictions:
    return Predictions(
        rows=np.arange(len(labels)),
        labels=np.array(labels),
        logits=np.array([[-one, one] for one in logits], np.float32),
        subjects=np.array([f"s{index}" for index in range(len(labels))]),
    )


def test_a_gallery_has_what_the_system_can(examinee: Examinee) -> None:
    wrong = predictions([0, 1, 0], [2.0, 1.0, -1.0])
    found = galleries.gallery(examinee, wrong)
    assert set(found) == {"edits", "sweeps", "transfers", "errors"}
    assert all(one.dtype == np.uint8 and one.shape[2] == 3 for one in found.values())
    right = predictions([0, 1], [-1.0, 1.0])
    assert "errors" not in galleries.gallery(examinee, right)


def test_a_transfer_takes_the_colour_of_its_source(examinee: Examinee) -> None:
    (targets,) = examinee.batches(np.array([0, 2]))
    (shown,) = examinee.batches(np.array([1]))
    made = galleries._transferred(examinee, targets, shown)
    assert torch.allclose(made, torch.ones_like(made))


def test_errors_stand_in_the_order_of_confidence(examinee: Examinee, monkeypatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        galleries, "captioned_faces", lambda faces, texts, per_row: seen.append(texts)
    )
    galleries.errors(examinee, predictions([0, 1, 0, 1], [0.2, -2.0, 1.0, 3.0]))
    (texts,) = seen
    assert [text.splitlines()[0] for text in texts] == ["happiness", "anger", "anger"]
    assert [text.splitlines()[1] for text in texts] == [
        "read anger",
        "read happiness",
        "read happiness",
    ]


@pytest.mark.parametrize("shape", [(8,), (8, 3), (8, 2, 2), (8, 5, 4, 4)])
def test_maps_of_any_shape_lie_over_the_faces(examinee: Examinee, shape: tuple[int, ...]) -> None:
    assert galleries.attention(examinee) is None
    system: Any = examinee.system
    system.maps = {"unit.gate": torch.linspace(0.2, 0.6, int(np.prod(shape))).view(shape)}
    picture = galleries.attention(examinee)
    assert picture is not None and picture.shape[1] > 2 * 90


def test_names_of_several_lines_make_room(examinee: Examinee) -> None:
    faces = np.zeros((1, 1, 8, 8, 3), np.uint8)
    one, three = (face_grid(faces, columns=[name]) for name in ("a", "a\nb\nc"))
    assert three.shape[0] > one.shape[0] + 20
    captioned = captioned_faces(faces[0], ["anger\nread fear"], per_row=8)
    assert captioned.shape[0] > captioned.shape[1]


def test_a_rule_that_peeks_keeps_the_best_look(examinee: Examinee, tmp_path) -> None:
    def look(bias: float) -> float:
        system: Any = examinee.system
        system.bias = bias
        rest = (examinee.lake, examinee.rows_N, RUN, INFO, World.alone())
        peek(tmp_path, system, *rest)
        kept = read_predictions(tmp_path / FILE)
        return float(np.mean(kept.predicted == kept.labels))

    assert [look(bias) for bias in (2.0, 0.0, 2.0)] == [0.5, 1.0, 1.0]

"""Claims are counted by subject; a face whose subject nobody told is one of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from benchmarks import claim_counts, claim_transfers
from data_service.schema import DatasetInfo, Expression, FaceBatch, Prediction
from trainer.config import DataConfig, EvaluationConfig

CLASSES = (Expression.ANGER, Expression.FEAR)
SUBJECTS = (None, "s1", None, "s1", None, "s2", None, "s2")
ROWS = np.arange(len(SUBJECTS))


class OneFace:
    """Gives every face back, and says that every attribute is there."""

    def predict(self, batch: FaceBatch) -> Prediction:
        return Prediction(images_BCHW=batch.faces_BCHW, attributes_BA=torch.ones(len(batch), 1))


def lake(subjects: tuple[str | None, ...] = SUBJECTS) -> Any:
    count = len(subjects)
    table = pa.table(
        {
            "expression": [str(CLASSES[row // 2 % 2]) for row in range(count)],
            "subject": pa.array(subjects, pa.string()),
            "attributes": pa.array([[("hat", 1.0)]] * count, pa.map_(pa.string(), pa.float32())),
        }
    )
    faces = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return SimpleNamespace(table=table, faces=faces, mapped=SimpleNamespace(expect=len))


def loaded() -> Any:
    info = DatasetInfo(classes=CLASSES, image_size=8, channels=3, subjects=2, attributes=("hat",))
    run = SimpleNamespace(data=DataConfig(image_size=8), evaluation=EvaluationConfig(), seed=0)
    return SimpleNamespace(system=OneFace(), run=run, info=info)


def first_class(faces_BCHW: Tensor) -> Tensor:
    """A judge that reads the same in every face."""
    return torch.tensor([[1.0, 0.0]]).expand(len(faces_BCHW), 2)


def test_nameless_faces_are_no_subject_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.scorecard.judge.expression_judge", lambda *_, seed: first_class)
    attributes = claim_counts.attribute_confusions(loaded(), lake(), ROWS, None)
    edits = claim_counts.edit_confusions(loaded(), lake(), ROWS, ROWS)
    for found_SKK in (attributes, edits):
        assert sorted(found_SKK.sum((1, 2)).tolist()) == [1, 1, 1, 1, 2, 2]


def transferred(monkeypatch: pytest.MonkeyPatch, counted: Any, subjects: Any) -> np.ndarray:
    told = lake(subjects)
    monkeypatch.setattr("data_service.lakes.lake.Lake.open", lambda path: told)
    monkeypatch.setattr("trainer.restore.load_system", lambda path: loaded())
    monkeypatch.setattr(claim_transfers, "parted", lambda *_: (ROWS, ROWS))
    judge = SimpleNamespace(embed=lambda faces_BCHW: faces_BCHW.flatten(1))
    monkeypatch.setattr("trainer.scorecard.judge.identity_judge", lambda *_, seed: judge)
    monkeypatch.setattr("trainer.scorecard.judge.expression_judge", lambda *_, seed: first_class)
    return claim_transfers.transferred(Path("run"), Path("lake"), "1/5", counted)


def test_a_transfer_is_judged_by_persons_of_whom_there_are_other_faces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every fourth face gets an expression: here the first and the fifth."""
    assert transferred(monkeypatch, "expression", SUBJECTS).sum((1, 2)).tolist() == [1, 1]
    named = ("s0", "s1", "s2", "s2", "s0", "s1", "s3", "s3")
    assert transferred(monkeypatch, "person", named).sum() == 2
    alone = ("s0", "s1", "s2", "s2", None, "s0", "s3", "s3")
    assert transferred(monkeypatch, "person", alone).sum() == 1


def test_who_is_shown_again() -> None:
    found = claim_transfers.shown_again(np.array(["a", "b", "a", "row 3"]))
    assert found.tolist() == [True, False, True, False]

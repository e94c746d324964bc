"""Predictions in batches and over ranks, and the scorecard made of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from data_service.lakes import columns
from data_service.schema import DatasetInfo, Expression, Prediction
from trainer.config import DataConfig, EvaluationConfig
from trainer.scorecard import evaluate
from trainer.scorecard.evaluate import Predictions
from trainer.system import OptimizerConfig, Player, System
from trainer.world import World

CLASSES = (Expression.ANGER, Expression.FEAR, Expression.NEUTRAL)


class BrightColumns(System):
    """Says how bright the first three columns are; notes in which mode it was asked."""

    def __init__(self):
        self.network = nn.Sequential(nn.Identity(), nn.Identity())
        self.network.train()
        self.modes = []

    def players(self):
        return (Player(name="recogniser", module=self.network, optimizer=OptimizerConfig()),)

    def stages(self):
        return ()

    def predict(self, batch):
        self.modes.append(self.network.training)
        return Prediction(logits_BK=batch.faces_BCHW.mean(dim=(1, 2))[:, :3])


@pytest.fixture
def lake():
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "expression": [str(CLASSES[index % 3]) for index in range(300)],
            "subject": [f"s{index // 10}" if index < 290 else None for index in range(300)],
        }
    )
    faces = generator.integers(0, 256, size=(300, 6, 6, 3), dtype=np.uint8)
    return SimpleNamespace(table=table, faces=faces, mapped=SimpleNamespace(expect=len))


@pytest.fixture
def info():
    return DatasetInfo(classes=CLASSES, image_size=4, channels=3, subjects=20)


def settings(flip=False):
    return SimpleNamespace(data=DataConfig(image_size=4), evaluation=EvaluationConfig(flip=flip))


def predict(lake, info, rows, *, flip=False, world=None):
    run = settings(flip)
    return evaluate.predict_rows(BrightColumns(), lake, rows, run, info, world or World.alone())


def test_rows_keep_their_order_across_batches(lake, info):
    rows = np.random.default_rng(1).permutation(300)
    found = predict(lake, info, rows)
    middle = lake.faces[rows][:, 1:5, 1:4].astype(np.float64).mean(axis=(1, 3)) / 127.5 - 1
    assert np.array_equal(found.rows, rows)
    assert np.allclose(found.logits, middle, atol=1e-5)
    assert np.array_equal(found.labels, rows % 3)
    assert set(found.subjects[rows >= 290]) == {f"row {row}" for row in range(290, 300)}


def test_faces_are_expected_before_they_are_read(lake, info):
    """Of a lake larger than memory they are read together, and let go of again."""
    expected, rows = [], np.arange(200)
    lake.mapped.expect = expected.append
    predict(lake, info, rows)
    assert len(expected) > 1 and np.array_equal(np.concatenate(expected), rows)


def test_mirror_images_are_averaged(lake, info):
    plain, flipped = (predict(lake, info, [5, 6], flip=flip).logits for flip in (False, True))
    columns = lake.faces[[5, 6]][:, 1:5, 1:5].astype(np.float64).mean(axis=(1, 3)) / 127.5 - 1
    assert np.allclose(flipped, (columns[:, :3] + columns[:, ::-1][:, :3]) / 2, atol=1e-5)
    assert not np.allclose(plain, flipped)


def test_ranks_share_the_rows(lake, info, monkeypatch):
    rows = np.arange(7)
    whole = predict(lake, info, rows).logits
    parts = [whole[rank::2] for rank in range(2)]
    monkeypatch.setattr(World, "gather_objects", lambda world, value: parts)
    for rank in range(2):
        world = World(rank=rank, size=2, device=torch.device("cpu"))
        assert np.array_equal(predict(lake, info, rows, world=world).logits, whole)


def test_networks_are_in_eval_mode_and_get_their_mode_back(lake, info):
    system = BrightColumns()
    system.network[1].eval()
    evaluate.predict_rows(system, lake, [0], settings(), info, World.alone())
    assert system.modes == [False]
    assert [module.training for module in system.network.modules()] == [True, True, False]


def test_a_class_that_was_not_trained_is_one_clear_line(lake):
    info = DatasetInfo(classes=CLASSES[:2], image_size=4, channels=3, subjects=20)
    with pytest.raises(ValueError, match=r"faces of neutral .* trained on anger, fear"):
        predict(lake, info, [2])


def made(num_faces=60, seed=0):
    generator = np.random.default_rng(seed)
    return Predictions(
        rows=np.arange(num_faces),
        labels=np.arange(num_faces) % 2,
        logits=generator.normal(size=(num_faces, 3)).astype(np.float32),
        subjects=np.array([f"s{index // 4}" for index in range(num_faces)]),
    )


def test_a_scorecard_is_plain_and_complete():
    card = evaluate.scorecard(made(), CLASSES, num_resamples=200)
    assert json.loads(json.dumps(card)) == card
    assert card["accuracy"]["low"] <= card["accuracy"]["value"] <= card["accuracy"]["high"]
    assert (card["num_faces"], card["num_subjects"]) == (60, 15)
    assert card["per_class"]["neutral"] is None
    assert np.sum(card["confusion"]) == 60
    assert card["macro_recall"]["value"] == pytest.approx(
        np.mean([card["per_class"]["anger"], card["per_class"]["fear"]])
    )


def test_a_scorecard_depends_on_its_seed_alone():
    cards = [evaluate.scorecard(made(), CLASSES, seed=seed) for seed in (1, 1, 2)]
    assert cards[0] == cards[1] != cards[2]


def test_no_face_no_scorecard():
    with pytest.raises(ValueError, match="no face"):
        evaluate.scorecard(made(0), CLASSES)


def test_predictions_survive_the_disk(tmp_path):
    evaluate.write_predictions(made(), tmp_path / "predictions.npz")
    found = evaluate.read_predictions(tmp_path / "predictions.npz")
    for name in ("rows", "labels", "logits", "subjects"):
        assert np.array_equal(getattr(found, name), getattr(made(), name))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def test_folds_are_pooled_in_the_order_of_the_lake():
    whole = made()
    parts = [
        Predictions(
            rows=whole.rows[part],
            labels=whole.labels[part],
            logits=whole.logits[part],
            subjects=whole.subjects[part],
        )
        for part in (np.arange(40, 60), np.arange(40))
    ]
    assert np.array_equal(evaluate.pooled(parts).logits, whole.logits)
    with pytest.raises(ValueError, match="overlap"):
        evaluate.pooled([parts[0], parts[0]])


def test_landmarks_follow_the_crop_and_the_mirror(lake, info):
    points = np.arange(300 * 5 * 3, dtype=np.float32).reshape(300, 15) % 6
    lake.table = lake.table.append_column("landmarks", pa.array(points.tolist()))
    told = DatasetInfo(classes=CLASSES, image_size=4, channels=3, subjects=20, landmarks=5)
    rows = np.array([7, 3])
    batch = evaluate.evaluation_batch(lake, rows, rows % 3, settings(), told)
    assert batch.landmarks_BL3 is not None
    assert np.array_equal(batch.landmarks_BL3[..., 0], points[rows].reshape(2, 5, 3)[..., 0] - 1)
    twice = evaluate.mirrored(evaluate.mirrored(batch))
    assert torch.equal(twice.landmarks_BL3, batch.landmarks_BL3)
    left, right = evaluate.mirrored(batch).landmarks_BL3[0, :2]
    assert torch.equal(left[0], 3 - batch.landmarks_BL3[0, 1, 0])
    assert torch.equal(right[1:], batch.landmarks_BL3[0, 0, 1:])


def test_a_batch_in_which_no_face_has_landmarks_has_unknown_ones(lake, info):
    points = [None] * 150 + [[1.0] * 15] * 150
    lake.table = lake.table.append_column("landmarks", pa.array(points, pa.list_(pa.float32())))
    told = DatasetInfo(classes=CLASSES, image_size=4, channels=3, subjects=20, landmarks=5)
    for rows, known in ((np.array([0, 1]), [False, False]), (np.array([0, 200]), [False, True])):
        batch = evaluate.evaluation_batch(lake, rows, rows % 3, settings(), told)
        assert batch.landmarks_BL3 is not None and batch.landmarks_BL3.shape == (2, 5, 3)
        assert torch.isfinite(batch.landmarks_BL3).flatten(1).all(1).tolist() == known
        assert evaluate.mirrored(batch).landmarks_BL3.shape == (2, 5, 3)
    with pytest.raises(ValueError, match="have none"):
        columns.landmarks(lake.table.take([0, 1]))


def test_a_clip_of_nobody_known_is_one_subject() -> None:
    table = pa.table({"subject": ["a", None, None, None], "sequence": ["m", "m", "m", None]})
    found = evaluate.subjects_of(SimpleNamespace(table=table), np.array([3, 0, 2, 1]))
    assert found.tolist() == ["row 3", "a", "row /clip/m", "row /clip/m"]

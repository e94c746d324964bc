"""The judges: trained once, kept by all that they depend on, never read half-written."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_service.schema import DatasetInfo, Expression
from trainer.config import DataConfig
from trainer.scorecard import judge as judges
from trainer.scorecard.evaluate import evaluation_batch

CLASSES = (Expression.ANGER, Expression.FEAR)
RUN = SimpleNamespace(data=DataConfig(image_size=16))
INFO = DatasetInfo(classes=CLASSES, image_size=16, channels=3, subjects=4)


@pytest.fixture
def lake():
    """Faces of two classes that differ in brightness, of four subjects that differ in hue."""
    generator = np.random.default_rng(0)
    faces = generator.integers(0, 60, size=(64, 16, 16, 3), dtype=np.uint8)
    faces[1::2] += 120
    for row in range(64):
        faces[row, :, :, row // 16 % 3] += 40
    table = pa.table(
        {
            "expression": [str(CLASSES[row % 2]) for row in range(64)],
            "subject": [f"s{row // 16}" if row < 60 else None for row in range(64)],
        }
    )
    mapped = SimpleNamespace(expect=len)
    return SimpleNamespace(table=table, faces=faces, mapped=mapped, hash="lake")


def equal(one: judges.Judge, two: judges.Judge) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def expression(lake, rows=None, **changed):
    rows = np.arange(64) if rows is None else rows
    return judges.expression_judge(lake, rows, RUN, INFO, **{"seed": 1, "images": 384, **changed})


def test_a_judge_learns_and_is_trained_once(lake, monkeypatch):
    first = expression(lake)
    faces = torch.from_numpy(lake.faces).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert (first(faces).argmax(1).numpy() == np.arange(64) % 2).mean() > 0.9
    monkeypatch.setattr(judges, "train_judge", pytest.fail)
    assert equal(first, expression(lake))


@pytest.mark.parametrize("grey", [False, True])
def test_faces_cut_out_batch_by_batch_teach_the_same(lake, grey):
    """Rows in no order, and not all of them."""
    rows = np.random.default_rng(3).permutation(64)[:48]
    lake.faces = np.pad(lake.faces, ((0, 0), (3, 2), (2, 3), (0, 0)), mode="reflect")
    run = SimpleNamespace(data=DataConfig(image_size=16, grey=grey))
    info = DatasetInfo(classes=CLASSES, image_size=16, channels=1 if grey else 3, subjects=4)
    whole = evaluation_batch(lake, rows, rows % 2, run, info).faces_BCHW
    at_once = judges.train_judge(
        lambda chosen: whole[torch.from_numpy(chosen)],
        rows % 2,
        2,
        channels=info.channels,
        seed=1,
        images=384,
    )
    assert equal(at_once, judges.expression_judge(lake, rows, run, info, seed=1, images=384))


def test_no_more_faces_are_held_than_a_batch_has(lake, monkeypatch):
    held = []
    cut_out = judges.faces_of
    monkeypatch.setattr(
        judges, "faces_of", lambda *given: held.append(len(given[1])) or cut_out(*given)
    )
    expression(lake, images=64)
    assert held == [16] * 4


@pytest.mark.parametrize("changed", [{"seed": 2}, {"images": 64}, {"rows": np.arange(32)}])
def test_another_seed_length_or_fold_is_another_judge(lake, changed):
    assert not equal(expression(lake), expression(lake, **changed))


def test_another_lake_is_another_judge(lake):
    first = expression(lake)
    lake.hash, lake.faces = "other", lake.faces[::-1].copy()
    assert not equal(first, expression(lake))


def test_a_damaged_file_is_replaced(lake, own_home):
    first = expression(lake)
    (path,) = (own_home / "judges").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    for damaged in (bytes(content), bytes(content[:200]), b""):
        path.write_bytes(damaged)
        assert equal(first, expression(lake))
    assert [item.name for item in (own_home / "judges").iterdir()] == [path.name]


def test_an_identity_judge_needs_two_subjects_with_names(lake):
    found = judges.identity_judge(lake, np.arange(64), RUN, INFO, seed=1, images=16)
    assert found is not None and found.head.out_features == 4
    for rows in (np.arange(16), np.arange(60, 64)):
        assert judges.identity_judge(lake, rows, RUN, INFO, seed=1, images=16) is None


def test_training_leaves_the_global_generator_alone(lake):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    expression(lake, images=16)
    assert torch.equal(before, torch.get_rng_state())

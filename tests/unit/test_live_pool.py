"""A pool that grows while it is shown: the ledger decides, once, and the share catches up."""

from __future__ import annotations

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.lock import ONCE
from data_service.folds import Fold
from data_service.planning.plan import DataNeeds, Plan, StagePlan
from data_service.planning.synthetic_slots import CATCH_UP, MOST_REPEATS
from data_service.schema import Expression
from data_service.synthesis.live_pool import (
    LEDGER,
    PARTS,
    WINDOW_STEPS,
    LiveManifest,
    LivePool,
    open_pool,
)
from data_service.synthesis.parts import Part, Parts
from data_service.synthesis.pool import EXAMPLE_SCHEMA, SealedPool

CLASSES = (Expression.ANGER, Expression.FEAR)
TRAIN, ROWS, BATCH, SHARE = 80, 100, 10, 0.3
WINDOW = WINDOW_STEPS * BATCH
TABLE = pa.table(
    {
        "sample_id": [f"{row:03d}" for row in range(ROWS)],
        "subject": [f"p{row // 5}" for row in range(ROWS)],
        "sitting": pa.nulls(ROWS, pa.string()),
        "expression": [str(CLASSES[row % 2]) for row in range(ROWS)],
    }
)
FOLD = Fold(
    index=0,
    num_folds=5,
    train_rows=np.arange(TRAIN),
    validation_rows=np.arange(80, 90),
    test_rows=np.arange(90, 100),
)
MANIFEST = LiveManifest(
    lake="lake",
    fold=FOLD.hash,
    fold_name="1/5",
    run="maker",
    classes=tuple(map(str, CLASSES)),
    until=80,
    image_size=2,
    channels=1,
)


@pytest.fixture
def live(tmp_path: Path) -> LivePool:
    return LivePool.create(tmp_path / "live", MANIFEST)


def arrive(live: LivePool, number: int, faces: int = 16) -> None:
    """The part of that number comes in: faces, and one that was refused."""
    first = number * 100
    count = faces + 1
    rows = pa.table(
        {
            "row_id": [f"{first + index}" for index in range(count)],
            "source_row": [(first + index) % TRAIN for index in range(count)],
            "subject": [f"p{(first + index) % TRAIN // 5}" for index in range(count)],
            "expression": [str(CLASSES[number % 2])] * count,
            "attempt": list(range(first, first + count)),
            "reason": [""] * faces + ["identity"],
            "pixels": [bytes([number, index, 7, 7]) for index in range(count)],
        },
        schema=EXAMPLE_SCHEMA,
    )
    part = Part(klass=number % 2, rows=rows, tried=count, passed=faces, refused={"identity": 1})
    Parts(live.path / PARTS).write(number, part)


def plan_of(
    live: LivePool | None, images: int = 12 * WINDOW, seed: int = 3, stages: int = 1
) -> Plan:
    stage = StagePlan(images=images, needs=DataNeeds(synthetic_share=SHARE))
    return Plan(TABLE, FOLD, CLASSES, [stage] * stages, BATCH, seed, live)


def shown(plan: Plan, steps: range) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and which of them are synthetic."""
    found = [plan.step(index) for index in steps]
    rows = np.concatenate([step.rows for step in found])
    return rows, np.concatenate([step.synthetic for step in found])


def test_until_faces_come_all_are_real_and_then_the_share_catches_up(live: LivePool) -> None:
    plan = plan_of(live)
    none = shown(plan, range(2 * WINDOW_STEPS))
    assert not none[1].any()
    for number in range(10):
        arrive(live, number)
    rows, synthetic = (
        np.concatenate(both)
        for both in zip(none, shown(plan, range(2 * WINDOW_STEPS, plan.num_steps)), strict=True)
    )
    counts = synthetic.reshape(12, WINDOW).sum(axis=1)
    assert counts.tolist()[:4] == [0, 0, CATCH_UP * 48, CATCH_UP * 48]
    assert counts[4:].tolist() == [48] * 8 and synthetic.sum() == SHARE * len(synthetic)
    assert set(rows[synthetic]) == set(range(ROWS, ROWS + 160))
    epochs = rows[~synthetic][: len(rows[~synthetic]) // TRAIN * TRAIN].reshape(-1, TRAIN)
    assert (np.sort(epochs, axis=1) == np.arange(TRAIN)).all(), "a real face was left out"


def test_few_faces_are_not_shown_more_often_than_they_can_bear(live: LivePool) -> None:
    arrive(live, 0, faces=2)
    _, synthetic = shown(plan_of(live), range(10 * WINDOW_STEPS))
    most = MOST_REPEATS * 2 / (MOST_REPEATS * 2 + TRAIN)
    assert (synthetic.reshape(10, WINDOW).sum(axis=1) == int(most * WINDOW)).all()


def test_steps_are_the_same_for_whoever_asks_in_whatever_order(live: LivePool) -> None:
    plan, rows = plan_of(live, stages=2), []
    for index in range(plan.num_steps):
        if index % 23 == 0:
            arrive(live, index // 23, faces=3)
        rows.append(plan.step(index).rows)
    assert max(map(max, rows)) >= ROWS
    later = pickle.loads(pickle.dumps(plan_of(live, stages=2)))
    for index in reversed(range(plan.num_steps)):
        assert np.array_equal(later.step(index).rows, rows[index])
        parts = [later.step(index).shard(rank, 2).rows for rank in (0, 1)]
        assert np.array_equal(np.concatenate(parts), rows[index])


def without_links(*given: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_window_is_decided_once_whoever_is_first(
    links: bool, live: LivePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", without_links)

    def decided(number: int) -> list[int]:
        own = LivePool(live.path)
        arrive(live, number)
        return [own.visible(0, window) for window in range(20)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(decided, range(8)))
    assert all(one == found[0] for one in found)
    assert found[0] == sorted(found[0])
    left = {file.name for file in (live.path / LEDGER).iterdir()} - {ONCE}
    assert left == {f"00-{window:08d}.json" for window in range(20)}, "a draft was left behind"


def test_a_replay_sees_what_the_run_saw_and_decides_nothing(live: LivePool) -> None:
    arrive(live, 0)
    first = shown(plan_of(live), range(3 * WINDOW_STEPS))[0]
    arrive(live, 1)
    known = live.hash
    again = open_pool(live.path)
    assert isinstance(again, LivePool) and again.replayed
    assert np.array_equal(shown(plan_of(again), range(3 * WINDOW_STEPS))[0], first)
    assert shown(plan_of(again), range(12 * WINDOW_STEPS))[0].max() < ROWS + 16
    assert live.hash == known
    assert np.array_equal(shown(plan_of(live), range(3 * WINDOW_STEPS))[0], first)


def test_faces_are_those_of_the_parts(live: LivePool) -> None:
    for number in range(3):
        arrive(live, number, faces=4)
    assert len(live) == 12
    assert [live[row].ravel().tolist()[:2] for row in (0, 3, 4, 11)] == [
        [0, 0],
        [0, 3],
        [1, 0],
        [2, 3],
    ]
    assert live[5].shape == live.face_shape == (2, 2, 1)
    assert [part.tried for part in live.parts()] == [5, 5, 5]


def test_faces_of_held_out_subjects_are_refused(live: LivePool, monkeypatch) -> None:
    held_out = pa.table({"source_row": [95], "expression": ["fear"]})
    monkeypatch.setattr(live, "visible", lambda stage, window: 1)
    monkeypatch.setattr(live, "table", lambda count: held_out.slice(0, count))
    with pytest.raises(ValueError, match="validates or tests on"):
        plan_of(live).step(0)


def test_what_is_no_live_pool_is_refused(live: LivePool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sealed pool"):
        open_pool(tmp_path)
    with pytest.raises(ValueError, match="no live pool"):
        LivePool(tmp_path)
    with pytest.raises(ValueError, match="no sealed pool"):
        SealedPool.open(live.path)


def test_a_ledger_without_its_faces_is_told(live: LivePool, monkeypatch) -> None:
    monkeypatch.setattr("data_service.synthesis.live_pool.ARRIVAL_SECONDS", 0.1)
    arrive(live, 0)
    plan = plan_of(live)
    plan.step(0)
    (live.path / PARTS / "00000000.arrow").unlink()
    with pytest.raises(ValueError, match="has 0 faces, but its ledger says that a step showed 16"):
        plan_of(LivePool(live.path)).step(0)

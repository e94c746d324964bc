"""Pictures of synthetic faces: which are shown, beside which source, from either kind of pool."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from data_service.lakes.lake import Lake
from data_service.synthesis.live_pool import PARTS, LiveManifest, LivePool
from data_service.synthesis.parts import Part, Parts
from data_service.synthesis.pool import EXAMPLE_SCHEMA, ROW_SCHEMA
from trainer.synthetic import live_pool, pool_pictures
from trainer.synthetic.pool_pictures import PAIRS_OF_A_CLASS

SIDE = 4
LAKE = cast(
    Lake, SimpleNamespace(faces=np.arange(50, dtype=np.uint8).repeat(48).reshape(50, 4, 4, 3))
)
REASONS = ["", "", "", "", "", "", "identity", "identity", "expression"]
"""Of nine attempts; face 100 + n is made of row n."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int, str]]]:
    """Of each picture the pairs, by their grey: source, synthetic face, and what stands below."""
    pictures = []

    def captioned(pairs_PHW3: np.ndarray, captions: list[str], per_row: int) -> np.ndarray:
        sources, made = pairs_PHW3[:, 0, 0, 0].tolist(), pairs_PHW3[:, 0, -1, 0].tolist()
        pictures.append(list(zip(sources, made, captions, strict=True)))
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pool_pictures, "captioned_faces", captioned)
    return pictures


def rows(first: int, expression: str) -> pa.Table:
    numbers = range(first, first + len(REASONS))
    return pa.table(
        {
            "row_id": list(map(str, numbers)),
            "source_row": list(numbers),
            "subject": ["anna"] * len(REASONS),
            "expression": [expression] * len(REASONS),
            "attempt": list(numbers),
            "reason": REASONS,
            "pixels": [bytes([100 + number] * 48) for number in numbers],
        },
        schema=EXAMPLE_SCHEMA,
    )


EXPECTED = [
    [
        (row, 100 + row, name)
        for row, name in [
            (0, "fear"),
            (1, "fear"),
            (2, "fear"),
            (3, "fear"),
            (10, "anger"),
            (11, "anger"),
            (12, "anger"),
            (13, "anger"),
        ]
    ],
    [
        (row, 100 + row, why)
        for row, why in [
            (6, "fear\nidentity"),
            (7, "fear\nidentity"),
            (8, "fear\nexpression"),
            (16, "anger\nidentity"),
            (17, "anger\nidentity"),
            (18, "anger\nexpression"),
            (26, "fear\nidentity"),
            (27, "fear\nidentity"),
            (28, "fear\nexpression"),
        ]
    ],
]


def test_some_of_each_class_and_reason_stand_beside_their_sources(shown: Any) -> None:
    whole = pa.concat_tables([rows(0, "fear"), rows(10, "anger"), rows(20, "fear")])
    passed = np.array([not reason for reason in whole["reason"].to_pylist()])
    admitted, refused = whole.filter(pa.array(passed)), whole.filter(pa.array(~passed))
    faces = np.stack([np.full((4, 4, 3), 100 + row) for row in admitted["source_row"].to_pylist()])
    named = pool_pictures.pool_pictures(admitted.select(ROW_SCHEMA.names), faces, refused, LAKE)
    assert list(named) == ["synthetic/admitted", "synthetic/refused"]
    assert shown == EXPECTED
    assert PAIRS_OF_A_CLASS == 4


def test_a_pool_of_nothing_has_no_picture() -> None:
    nothing = EXAMPLE_SCHEMA.empty_table()
    assert pool_pictures.pool_pictures(nothing, np.empty((0, 4, 4, 3)), nothing, LAKE) == {}


def test_mlflow_is_told_and_shown_what_came_of_a_live_pool(tmp_path: Path, shown: Any) -> None:
    manifest = LiveManifest(
        lake="lake",
        fold="fold",
        fold_name="1/5",
        run="maker",
        classes=("fear", "anger"),
        until=80,
        image_size=SIDE,
        channels=3,
    )
    live = LivePool.create(tmp_path / "live", manifest)
    for number in range(3):
        made = rows(10 * number, manifest.classes[number % 2])
        refused = {"identity": 2, "expression": 1}
        part = Part(klass=number % 2, rows=made, tried=12, passed=6, refused=refused)
        Parts(live.path / PARTS).write(number, part)
    told: dict[str, Any] = {}
    tracker = SimpleNamespace(
        metrics=lambda values, images: told.update(values),
        image=lambda name, picture_HW3, images: told.update({name: images}),
    )
    live_pool.report(cast(Any, tracker), live, LAKE, 640)
    assert told == {
        "synthetic/faces": 18,
        "synthetic/admission_rate/fear": pytest.approx(6 / 9),
        "synthetic/admission_rate/anger": pytest.approx(6 / 9),
        "synthetic/refused/identity": 6,
        "synthetic/refused/expression": 3,
        "synthetic/admitted": 640,
        "synthetic/refused": 640,
    }
    assert shown == EXPECTED

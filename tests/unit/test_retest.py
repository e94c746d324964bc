"""Which faces of another lake a trained run is tested on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from data_service.schema import DatasetInfo, Expression
from trainer import retest
from trainer.config import DataConfig

INFO = DatasetInfo(
    classes=(Expression.ANGER, Expression.FEAR),
    image_size=8,
    channels=3,
    subjects=2,
    attributes=("bald", "fringe"),
)


class Other:
    """Four faces, of which one shows a class of the run, and one is known to be bald or not."""

    hash, path = "other", Path("lakes/other")

    def __init__(self, *, told: str = "bald") -> None:
        attributes = [None, [(told, 0.0)], None, None]
        self.table = pa.table(
            {
                "expression": pa.array([None, "surprise", "anger", None]),
                "attributes": pa.array(attributes, pa.map_(pa.string(), pa.float32())),
            }
        )

    def __len__(self) -> int:
        return len(self.table)

    def require_size(self, side: int) -> None:
        """Large enough."""


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has learnt from nobody in the lake."""
    monkeypatch.setattr(retest, "unseen_rows", lambda weights, lake, rows_N: rows_N)


def rows_of(lake: Any, *can: str) -> list[int]:
    """The rows that a run of such a system is tested on."""
    loaded: Any = SimpleNamespace(
        device="cpu",
        system=None,
        spec=SimpleNamespace(capabilities=frozenset(can)),
        run=SimpleNamespace(data=DataConfig(image_size=8)),
        info=INFO,
        directory=Path("runs/aaaa"),
        require_channels=lambda lake: None,
    )
    job: Any = SimpleNamespace(lake_hash="own")
    return retest.examinee_of(loaded, job, lake).rows_N.tolist()


def test_what_recognises_is_tested_on_its_classes() -> None:
    assert rows_of(Other(), "recognise") == [2]


@pytest.mark.parametrize("can", ["attributes", "identify"])
def test_what_needs_no_classes_is_tested_on_every_face(can: str) -> None:
    assert rows_of(Other(), can) == [0, 1, 2, 3]


def test_a_lake_without_the_attributes_of_the_run_is_refused(monkeypatch) -> None:
    says = "none of the attributes that run aaaa tells: bald, fringe"
    with pytest.raises(ValueError, match=says):
        rows_of(Other(told="Smiling"), "attributes")
    monkeypatch.setattr(retest, "_LOOK_ROWS", 1)
    assert rows_of(Other(), "attributes") == [0, 1, 2, 3]

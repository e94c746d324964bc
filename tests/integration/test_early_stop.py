"""A run that was ended early, and killed while it was tested, ends as one left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from data_service.ingest import ingest
from trainer import between, catalog, conclude, job, launch
from trainer.launch import RunResult
from trainer.overrides import with_overrides

RUN = with_overrides(
    catalog.recipe("baseline.tiny"),
    {
        "system.images": 512,
        "evaluation.every_images": 64,
        "evaluation.select": "accuracy",
        "evaluation.patience": 64,
    },
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    ingest("drawn", None, path, image_size=48, options={"subjects": 6, "faces_per_subject": 8})
    return path


@pytest.fixture(autouse=True)
def no_better(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Validations get worse and worse, until one more would be the best; how many there were."""
    seen: list[int] = []

    def metrics(*given: object) -> dict[str, float]:
        seen.append(1)
        return {"accuracy": (0.5, 0.4, 0.9)[min(len(seen), 3) - 1]}

    monkeypatch.setattr(between, "validation_metrics", metrics)
    return seen


def test_killed_while_it_is_tested(
    lake: Path, no_better: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(**options: Any) -> RunResult:
        return launch.train(RUN, lake, **options)

    alone = train(fold="1/3")
    assert alone.images == 128, "ended by the second of eight validations"
    no_better.clear()

    def dies(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conclude, "_test", dies)
        with pytest.raises(KeyboardInterrupt):
            train(fold="1/3")
    (killed,) = (one["run_id"] for one in job.records() if one["run_id"] != alone.run_id)
    resumed = train(resume=killed)
    assert (resumed.images, resumed.ledger) == (alone.images, alone.ledger)
    assert resumed.scorecard == alone.scorecard
    left = load_file(alone.directory / "weights.safetensors")
    right = load_file(resumed.directory / "weights.safetensors")
    assert all((value == right[name]).all() for name, value in left.items())

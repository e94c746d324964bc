"""A published table from end to end, on drawn faces: no licence is needed for the path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_service.ingest import ingest
from trainer import reproduce


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=56, options={"subjects": 6, "faces_per_subject": 16})
    return path


@pytest.mark.slow
def test_the_whole_path_on_drawn_faces(lake: Path) -> None:
    """Trains: both rules beside the paper's figure, and every way in which it differs is said."""
    found = reproduce.reproduce(
        "ckplus8",
        lake,
        recipe="tiny",
        folds=2,
        images=64,
        systems=("fn2en",),
        settings={"system.identity_network": "random"},
    )
    assert json.loads(json.dumps(found)) == found
    ours = [row for row in found["rows"] if "ours" in row]
    assert [(row["method"], row["rule"]) for row in ours] == [
        (method, rule)
        for method in ("CNN from scratch (BN)", "VGG-Face fine-tuned", "FN2EN")
        for rule in ("honest", "peeking")
    ]
    for honest, peeking in zip(ours[::2], ours[1::2], strict=True):
        assert honest["num_faces"] == peeking["num_faces"] == 96
        assert peeking["ours"]["value"] >= honest["ours"]["value"]
        assert honest["ours"]["low"] <= honest["ours"]["value"] <= honest["ours"]["high"]
    assert [row["method"] for row in found["rows"] if "ours" not in row] == ["AUDN"]
    assert "the lake holds drawn, not ckplus" in found["differs"]
    assert "recipe tiny, not paper" in found["differs"]

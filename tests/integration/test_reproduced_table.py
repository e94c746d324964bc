"""Published tables from end to end on faces at hand: no licence is needed for the path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from tests.corpora import tfd
from trainer import published, reproduce

PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "photos"
RANDOM = {"system.identity_network": "random"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=56, options={"subjects": 6, "faces_per_subject": 16})
    return path


def ours(found: Mapping[str, Any], num_faces: int) -> list[dict[str, Any]]:
    """The rows of what was run, each rule beside the other."""
    rows = [row for row in found["rows"] if "ours" in row]
    assert [row["rule"] for row in rows] == ["honest", "peeking"] * (len(rows) // 2)
    for honest, peeking in zip(rows[::2], rows[1::2], strict=True):
        assert honest["num_faces"] == peeking["num_faces"] == num_faces
        assert peeking["ours"]["value"] >= honest["ours"]["value"]
        assert honest["ours"]["low"] <= honest["ours"]["value"] <= honest["ours"]["high"]
    return rows


def test_the_whole_path_on_drawn_faces(lake: Path) -> None:
    """Trains: both rules beside the paper's figure, and every way in which it differs is said."""
    found = reproduce.reproduce(
        "ckplus8", [lake], recipe="tiny", folds=2, images=64, systems=("fn2en",), settings=RANDOM
    )
    assert json.loads(json.dumps(found)) == found
    methods = [row["method"] for row in ours(found, 96)[::2]]
    assert methods == ["CNN from scratch (BN)", "VGG-Face fine-tuned", "FN2EN"]
    assert [row["method"] for row in found["rows"] if "ours" not in row] == ["AUDN"]
    assert "the lake holds drawn, not ckplus" in found["differs"]
    assert "recipe tiny, not paper" in found["differs"]


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the development photographs are not here")
def test_the_same_command_on_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest("photos", PHOTOS, tmp_path / "photos", image_size=56)
    words = ["reproduce", "ckplus6", "--lake", tmp_path / "photos", "--recipe", "tiny"]
    words += ["--folds", 2, "--images", 64, "--set", "system.identity_network=random", "--json"]
    mien.app(list(map(str, words)), prog_name="mien", standalone_mode=False)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    table = published.table_named("ckplus6")
    held = Lake.open(tmp_path / "photos").manifest.classes
    (honest, _) = ours(found, sum(held[one] for one in table.classes))
    assert (honest["method"], honest["published"]) == ("FN2EN", 98.6)
    assert "the lake holds photos, not ckplus" in found["differs"]
    assert not any(one.startswith("leaks") for one in found["differs"])


def test_the_mean_over_official_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TFD in little, of whose five splits each tests two of twelve persons."""
    table = published.table_named("tfd")
    one = tuple(entry for entry in table.entries if entry.variant == "scratch")
    monkeypatch.setattr(reproduce, "table_named", lambda name: replace(table, entries=one))
    lakes = [split_of_tfd(tmp_path, number) for number in range(1, 6)]
    found = reproduce.reproduce("tfd", lakes, recipe="tiny", images=64, allow_leaks=True)
    (honest, _) = ours(found, 5 * 6)
    assert len(set(honest["run_ids"])) == 5
    assert not any("official splits" in text for text in found["differs"])


def split_of_tfd(folder: Path, number: int) -> Path:
    """A lake of one of the five splits."""
    source, lake = folder / "tfd", folder / f"lake {number}"
    variables = tfd.arrays()
    place_N = np.arange(len(variables["folds"])) // 3 % 6
    for split in range(5):
        tested, validates = place_N == split, place_N == (split + 1) % 6
        variables["folds"][:, split] = np.where(tested, 3, np.where(validates, 2, 1))
    variables["folds"][variables["labs_ex"][:, 0] < 0] = 0
    tfd.save(source, variables)
    ingest("tfd", source, lake, image_size=56, options={"fold": number})
    return lake

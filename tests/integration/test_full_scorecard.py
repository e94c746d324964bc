"""`mien evaluate --full` from a trained run to cards, pictures and MLflow, on few drawn faces."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import mien
from cluster.home import tracking_uri
from data_service.ingest import ingest
from trainer import catalog, launch
from trainer.overrides import with_overrides
from trainer.scorecard.measures import flat
from trainer.scorecard.occlusion import OCCLUSIONS

SHORT = {
    "system.images": 64,
    "system.identity_network": "random",
    "system.network.recognition_channels": (8, 8, 8),
    "system.network.synthesis_channels": (8, 8, 8),
    "system.network.critic_channels": (8, 8, 8, 8),
}


def evaluated(run: str, lake: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    """What the command says in JSON."""
    words = ["evaluate", run, "--lake", str(lake), "--full", "--json"]
    mien.app(words, prog_name="mien", standalone_mode=False)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.usefixtures("quick_judges")
def test_every_card_on_its_own_lake_and_on_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = partial(ingest, "drawn", None, image_size=48)
    draw(tmp_path / "own", options={"subjects": 6, "faces_per_subject": 16})
    draw(tmp_path / "other", options={"subjects": 3, "faces_per_subject": 8, "seed": 1})
    run = with_overrides(catalog.recipe("fersnet.tiny"), SHORT)
    trained = launch.train(run, tmp_path / "own", fold="1/3")

    own = evaluated(trained.run_id, tmp_path / "own", capsys)
    other = evaluated(trained.run_id, tmp_path / "other", capsys)

    assert own["accuracy"]["value"] == trained.as_json()["accuracy"]["value"]
    assert (own["num_faces"], other["num_faces"]) == (2 * 16, 3 * 8)
    for found in (own, other):
        cards = found["measures"]
        assert set(cards["occlusion"]) == set(OCCLUSIONS)
        assert {"pose", "synthesis", "gain"} <= set(cards)
        assert cards["gain"]["seeds"] == 3 and cards["gain"]["num_synthetic"] > 0
        for name, value in flat(cards).items():
            if name.endswith("_low"):
                assert value <= flat(cards)[name.removesuffix("_low")]
        assert all(Path(picture).stat().st_size > 0 for picture in found["pictures"])
        assert not found["not_in_mlflow"]
    _check_record(trained.run_id, own, other)


def _check_record(run_id: str, own: dict, other: dict) -> None:
    """MLflow has the figures of both lakes under their names."""
    from mlflow import MlflowClient

    metrics = MlflowClient(tracking_uri()).get_run(run_id).data.metrics
    for lake, found in (("own", own), ("other", other)):
        expected = flat({"accuracy": found["accuracy"], **found["measures"]})
        for name, value in expected.items():
            assert metrics[f"evaluate/{lake}/{name}"] == pytest.approx(value, nan_ok=True)

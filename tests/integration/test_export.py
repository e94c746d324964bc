"""A run as ONNX and torch.export, and what is said where they would not be the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.home import tracking_uri
from cluster.mlflow_store import ensure_store
from data_service.schema import DatasetInfo, Expression
from tests.made_runs import finished, self_contained
from trainer import job
from trainer.inference import export
from trainer.inference.export import export as export_run
from trainer.register import register
from trainer.restore import load_system
from trainer.tracking.tracker import create_run

CLASSES = (Expression.ANGER, Expression.HAPPINESS, Expression.NEUTRAL)


def fresh(recipe: str, run_id: str = "aaaa", **about: Any) -> str:
    """A run of the recipe with fresh weights; its id."""
    run = self_contained(recipe)
    side = run.data.image_size
    info = DatasetInfo(classes=CLASSES, image_size=side, channels=3, subjects=3)
    return finished(run, info, run_id, **about).name


def test_a_model_says_what_it_takes(own_home: Path, tmp_path: Path) -> None:
    """That it computes what the original does: tests/contract/test_exported.py."""
    done = export_run(fresh("exprgan.tiny"), tmp_path / "model")
    assert done.inputs == ("faces", "target_expression", "target_intensity")
    told = json.loads((tmp_path / "model" / "model.json").read_text())
    assert told["classes"] == list(map(str, CLASSES))


def test_a_model_says_that_it_takes_no_mean_with_the_mirror_image(own_home: Path) -> None:
    for recipe, averaged in (("fersnet.tiny", True), ("exprgan.tiny", False)):
        loaded = load_system(fresh(recipe, recipe.partition(".")[0]))
        model = export.Exportable(loaded)
        assert ("logits" in export._described(loaded, model)) == averaged
        alone = replace(loaded.run, evaluation=replace(loaded.run.evaluation, flip=False))
        assert "logits" not in export._described(replace(loaded, run=alone), model)


def test_a_model_that_differs_is_not_written(own_home: Path, tmp_path: Path, monkeypatch) -> None:
    run = fresh("fersnet.tiny")
    monkeypatch.setattr(export, "_differences", lambda *_: {"model.onnx": 0.5})
    with pytest.raises(RuntimeError, match=r"model\.onnx differs from the original by 0\.5"):
        export_run(run, tmp_path / "model")
    assert list(tmp_path.glob("*model*")) == [] and list(tmp_path.glob(".model*")) == []


def test_a_folder_that_exists_is_left_alone(own_home: Path, tmp_path: Path) -> None:
    run = fresh("fersnet.tiny")
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="exists already; name a new folder"):
        export_run(run, tmp_path / "model")
    with pytest.raises(ValueError, match="there is no folder"):
        export_run(run, tmp_path / "no" / "model")


def test_a_registered_model_is_the_original_and_says_what_it_takes(own_home: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run_id = create_run(tracking_uri(), "test", "a run", tags={"mien.fold": "1/3"}, params={})
    fresh("fersnet.tiny", run_id, tracking_uri=tracking_uri())
    result = {
        **{"run_id": run_id, "status": "finished", "steps": 1, "images": 16},
        **{"images_per_second": 1.0, "first_step_seconds": 1.0, "validation": {}},
        **{"scorecard": None, "measures": {}, "ledger": 0},
    }
    job.write_json(own_home / "runs" / run_id / "result.json", result)
    done = register(run_id, "expressions", "champion")
    assert (done.version, done.address) == (1, "models:/expressions@champion")
    client = ensure_store(tracking_uri())
    kept = client.get_model_version_by_alias("expressions", "champion")
    assert kept.run_id == run_id and "anger, happiness, neutral" in kept.description
    assert client.get_run(run_id).info.status == "RUNNING", "registering ends no run"
    (logged,) = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert (logged.source_run_id, logged.status) == (run_id, "READY")
    assert str(own_home) in logged.artifact_location, "beside the run's own files"
    mlflow.set_tracking_uri(tracking_uri())
    model = mlflow.pyfunc.load_model(done.address)
    assert model.metadata.get_input_schema().input_names() == ["faces", "target_expression"]
    assert model.metadata.get_output_schema().input_names() == ["logits", "images"]
    loaded = load_system(run_id)
    original = export.Exportable(loaded).eval()
    given = export._example(loaded, original, 3)
    named = dict(zip(original.inputs, (value.numpy() for value in given), strict=True))
    said, made = original(*given)
    found = model.predict(named)
    assert np.allclose(found["logits"], said.detach().numpy(), atol=1e-4)
    assert np.allclose(found["images"], made.detach().numpy(), atol=1e-4)
    with pytest.raises(mlflow.MlflowException, match="faces"):
        model.predict({"target_expression": named["target_expression"]})

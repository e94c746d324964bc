"""What the end of a run leaves in MLflow is what a comparison reads where its folder is gone."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cluster.mlflow_store import ensure_store
from tests.made_runs import recorded
from trainer import catalog, job
from trainer.scorecard.evaluate import Predictions, scorecard, write_predictions
from trainer.tracking.report import report
from trainer.tracking.tracker import Tracker, create_run
from tuning.recorded import predictions_of
from tuning.rows import Evidence

CLASSES = ("anger", "fear")
SAID = Predictions(
    rows=np.arange(4),
    labels=np.array([0, 1, 0, 1]),
    logits=np.eye(2)[[0, 1, 1, 1]],
    subjects=np.array(["a", "a", "b", "b"]),
)


@pytest.mark.parametrize(
    ("evidence", "other"), [("validation", "predictions"), ("predictions", "validation")]
)
def test_predictions_are_read_from_mlflow_once_the_folder_is_gone(
    store: str, evidence: Evidence, other: Evidence
) -> None:
    run_id = create_run(store, f"reported {evidence}", "a run", tags={}, params={})
    run = recorded(catalog.recipe("baseline.tiny"), run_id, tracking_uri=store)
    write_predictions(SAID, run.directory / f"{evidence}.npz")
    result = {
        **{"images": 96, "images_per_second": 7.0, "first_step_seconds": 1.0, "measures": {}},
        "validation": {"macro_recall": 0.5},
        "scorecard": scorecard(SAID, CLASSES) if evidence == "predictions" else None,
    }
    job.write_json(run.directory / "result.json", result)
    tracker = Tracker(store, run_id, run.journal, system_metrics=False)
    report(tracker, run, result)
    assert tracker.close("FINISHED", timeout_seconds=60)
    shutil.rmtree(run.directory)
    client = ensure_store(store)
    found = predictions_of(client, client.get_run(run_id), evidence)
    assert found is not None and found.confusions().tolist() == SAID.confusions().tolist()
    assert predictions_of(client, client.get_run(run_id), other) is None

"""A search on a real Ray: killed or stopped and gone on with, it equals one left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("search_with_fake_training.py")


def drive(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MIEN_HOME": str(home),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, str(DRIVER), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def trials(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    return [
        (trial["number"], trial["state"], trial["params"], trial["value"])
        for trial in json.loads(done.stdout.splitlines()[-1])["trials"]
    ]


def recorded(home: Path) -> list[Any]:
    """Every run of the experiment in MLflow."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mien")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def study_run(home: Path) -> Any:
    return next(run for run in recorded(home) if run.data.tags["mien.kind"] == "study")


def test_killed_and_resumed_on_ray_equals_left_alone(tmp_path: Path) -> None:
    alone = trials(drive(tmp_path / "alone", "8"))
    assert len(alone) == 8 and {state for _, state, _, _ in alone} == {"COMPLETE", "PRUNED"}

    killed = drive(tmp_path / "killed", "8", "die", "2", "lose")
    assert killed.returncode == 9, killed.stderr
    assert not (tmp_path / "killed" / "lose-a-slot").exists()
    stopped = drive(tmp_path / "killed", "8", "stop", "2")
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout.splitlines()[-1])["status"] == "stopped"
    assert study_run(tmp_path / "killed").info.status == "KILLED"
    resumed = drive(tmp_path / "killed", "8")
    assert trials(resumed) == alone
    assert resumed.stderr == "", "what Ray says belongs into its log"

    url = f"sqlite:///{tmp_path / 'killed' / 'studies' / 'fake.db'}"
    attempts = optuna.load_study(study_name="fake", storage=url).get_trials()
    assert len(attempts) > 8 and "RUNNING" not in {trial.state.name for trial in attempts}

    runs = recorded(tmp_path / "killed")
    kinds = [run.data.tags["mien.kind"] for run in runs]
    assert kinds.count("study") == 1 and kinds.count("trial") == 8
    study = study_run(tmp_path / "killed")
    assert study.info.status == "FINISHED" and study.data.metrics["trials_ended"] == 8
    ends = {run.data.tags["mien.trial"]: run for run in runs if "mien.trial" in run.data.tags}
    for number, state, params, value in alone:
        run = ends[str(number)]
        assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
        assert run.info.status == ("FINISHED" if state == "COMPLETE" else "KILLED")
        assert set(run.data.params) == set(params)
        assert run.data.metrics.get("validation/macro_recall") == value


@pytest.mark.slow
def test_without_the_studys_process_or_its_ray_it_ends_and_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "hurt"
    orphan = drive(home, "8", "orphan", "1")
    last = orphan.stderr.strip().splitlines()[-1]
    says = "ValueError: the process that keeps the study has died; nothing is lost: --resume goes"
    assert orphan.returncode == 1 and last.startswith(says), orphan.stderr
    assert drive(home, "8", "behead", "2").returncode != 0
    assert trials(drive(home, "8")) == trials(drive(tmp_path / "alone", "8"))

"""Made-up runs of an experiment, on a real store, for tests of what compares them."""

from __future__ import annotations

import json
import re

import numpy as np
from mlflow.entities import Metric, Param

from cluster.home import runs_dir
from cluster.mlflow_store import ensure_store, experiment_id
from trainer.scorecard.evaluate import Predictions, write_predictions

NUM_SUBJECTS = 60


def predictions(skill: float, fold: int, num_folds: int, seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(NUM_SUBJECTS), 8)
    labels = np.arange(len(subjects)) % 4
    right = generator.random(len(subjects)) < skill
    predicted = np.where(right, labels, (labels + 1) % 4)
    held = subjects % num_folds == fold - 1
    return Predictions(
        rows=np.flatnonzero(held),
        labels=labels[held],
        logits=np.eye(4, dtype=np.float32)[predicted[held]],
        subjects=np.array([f"s{subject}" for subject in subjects[held]]),
    )


def record(
    store, experiment, system, *, tested=None, seen=None, status="FINISHED", tags=None, **about
):
    """A run as `train` leaves it; `tested` and `seen` become its predictions."""
    client = ensure_store(store)
    tags = (tags or {}) | {
        "mien.kind": about.get("kind", "train"),
        "mien.system": system,
        "mien.recipe": "tiny",
        "mien.fold": about.get("fold", ""),
        "mien.lake_hash": about.get("lake", "a" * 16),
    }
    if "parent" in about:
        tags["mlflow.parentRunId"] = about["parent"]
    identity = experiment_id(client, store, experiment)
    name = about.get("name", system)
    run_id = client.create_run(identity, tags=tags, run_name=name).info.run_id
    params = {"seed": about.get("seed", 0), **about.get("params", {})}
    metrics = {"images_per_second": 100.0, **about.get("metrics", {})}
    client.log_batch(
        run_id,
        params=[Param(key, str(value)) for key, value in params.items()],
        metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
    )
    for name, said in (("predictions", tested), ("validation", seen)):
        if said is not None:
            folder = runs_dir() / run_id
            folder.mkdir(parents=True, exist_ok=True)
            write_predictions(said, folder / f"{name}.npz")
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def crossvalidated(store, experiment, system, skill, *, folds=3, seed=0, **about):
    parent = record(store, experiment, system, kind="crossval", **about)
    for fold in range(1, folds + 1):
        tested = predictions(skill, fold, folds, seed)
        where = {"kind": "fold", "fold": f"{fold}/{folds}", "parent": parent, "seed": seed}
        record(store, experiment, system, tested=tested, **where, **about)


def three_systems(store: str) -> str:
    """The experiment of a good system, its near rival, a weak one, and a run that has failed."""
    for system, skill, seed in (("fersnet", 0.9, 1), ("rival", 0.89, 2), ("weak", 0.5, 3)):
        crossvalidated(store, "ranked", system, skill, seed=seed)
    record(store, "ranked", "fersnet", status="FAILED")
    return "ranked"


def studied(
    store,
    experiment,
    name,
    trials,
    *,
    objectives="macro_recall",
    params=None,
    leaks=None,
    ended="FINISHED",
):
    """A study whose trials are (status, metrics by fold); `leaks` are by fold, too."""
    leaks = leaks or {}
    tags = {"mien.leaks": "; ".join(leaks.values()) or "none"}
    about = {"params": {"objectives": objectives}, "tags": tags, "status": ended}
    study = record(store, experiment, "fersnet", kind="study", name=name, **about)
    for number, (status, folds) in enumerate(trials):
        own = params or {"weight": number}
        about = {"name": f"trial {number}", "parent": study, "params": own, "status": status}
        trial = record(store, experiment, "fersnet", kind="trial", **about)
        for fold, metrics in folds.items():
            tags = {"mien.leaks": leaks.get(fold, "none")}
            where = {"kind": "fold", "fold": fold, "parent": trial, "params": own, "tags": tags}
            metrics = {f"final/{name}": value for name, value in metrics.items()}
            record(store, experiment, "fersnet", metrics=metrics, **where)


def validated(*values, folds=2):
    """Metrics by fold of a trial with these values."""
    return {f"all:{i}/{folds}": {"macro_recall": value} for i, value in enumerate(values, 1)}


def searched(store, experiment, *skills, objective="macro_recall"):
    """A study of trials of two folds, each with predictions of its skill, None for without any."""
    study = record(store, experiment, "fersnet", kind="study", params={"objectives": objective})
    for number, skill in enumerate(skills):
        own = {"weight": number}
        name = f"trial {number}"
        trial = record(
            store, experiment, "fersnet", kind="trial", name=name, parent=study, params=own
        )
        for fold in (1, 2):
            seen = None if skill is None else predictions(skill, fold, 2, seed=number)
            value = 0.3 if seen is None else float(np.mean(seen.predicted == seen.labels))
            metrics = {"final/macro_recall": value, "final/accuracy": value}
            where = {"kind": "fold", "fold": f"all:{fold}/2", "parent": trial, "params": own}
            record(store, experiment, "fersnet", seen=seen, metrics=metrics, **where)
    return study


def data_of(text):
    """What the page with this text shows."""
    return json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.DOTALL)[1])

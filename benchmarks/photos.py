"""Real learning: FERSNet's variants and HOG + linear SVM on the same folds of real photographs.

Method. `mien ingest photos DIR --size 56 --grey` makes the lake. Five folds by subject over the
classes neutral, happiness, surprise, sadness and anger; every subject is tested once. HOG (64 px,
cells of 8, blocks of 2 x 2, 9 orientations) sees the same aligned faces, trains on the training and
validation subjects together, and chooses C and whether classes are weighed by folds of subjects
within them, for the 48 px crop and for the whole face; the better of the two is the peer. Networks
train by `mien crossval RECIPE`. With `--pretrain LAKE` every fold starts from one run of the same
recipe on that lake of drawn faces, which no person took part in; a recipe with FES-DA starts from
the run of the recipe that it builds on. Seconds include that run. Figures are over all test faces;
intervals and paired differences by the delete-one-subject jackknife, p by the paired swap test;
of recipes that are asked for together each is also paired with the one before it.

    mien ingest drawn --lake DRAWN --size 56 --grey --option subjects=300 \\
        --option faces_per_subject=16
    python -m benchmarks.photos LAKE --pretrain DRAWN \\
        --recipes fersnet.small_hard_sharing fersnet.small
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

FOLDS = 5
COSTS = (0.003, 0.01, 0.03, 0.1)


def hog_predictions(lake_path: Path, crop: int) -> dict[str, np.ndarray]:
    """Rows, labels, predicted classes and subjects of every test face of all folds."""
    from benchmarks.drawn import hog_features
    from data_service.folds import class_codes, make_folds
    from data_service.lakes.lake import Lake
    from trainer.presets import PHOTO_CLASSES

    lake = Lake.open(lake_path)
    classes = sorted(PHOTO_CLASSES)
    codes = class_codes(lake.table, classes)
    margin = (lake.manifest.image_size - crop) // 2
    faces = lake.faces[:, margin : margin + crop, margin : margin + crop]
    features = hog_features(np.repeat(faces, 3, axis=3) if faces.shape[3] == 1 else faces)
    subjects = np.array([name or "" for name in lake.table["subject"].to_pylist()])
    found: dict[str, list[np.ndarray]] = {key: [] for key in ("rows", "predicted")}
    for fold in make_folds(lake.table, FOLDS, classes=classes):
        train = np.concatenate([fold.train_rows, fold.validation_rows])
        known = (features[train], codes[train])
        said = linear_svm(known, features[fold.test_rows], subjects[train])
        found["rows"].append(fold.test_rows)
        found["predicted"].append(said)
    rows = np.concatenate(found["rows"])
    return {
        "rows": rows,
        "labels": codes[rows],
        "predicted": np.concatenate(found["predicted"]),
        "subjects": subjects[rows],
    }


def linear_svm(known: tuple, features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Predictions after training on `known` (features, labels), tuned for mean class recall."""
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.svm import LinearSVC

    grid = {"C": list(COSTS), "class_weight": [None, "balanced"]}
    search = GridSearchCV(LinearSVC(), grid, cv=GroupKFold(3), scoring="balanced_accuracy")
    return search.fit(*known, groups=groups).predict(features)


def confusions(values: dict[str, np.ndarray], num_classes: int = 5) -> np.ndarray:
    """One confusion matrix per subject, in the order of subjects' names."""
    from trainer.scorecard.statistics import confusion_by_subject

    order = np.argsort(values["rows"])
    labels, predicted, subjects = (
        values[key][order] for key in ("labels", "predicted", "subjects")
    )
    return confusion_by_subject(labels, predicted, subjects, num_classes)


def pretrained(recipe: str, lake: Path, overrides: dict[str, Any]) -> tuple[str, float]:
    """A run of the recipe, without FES-DA, on another lake: its id, and its seconds."""
    from trainer import catalog, launch
    from trainer.overrides import with_overrides

    run = with_overrides(catalog.recipe(recipe.removesuffix("_fesda")), overrides)
    started = time.monotonic()
    result = launch.train(run, lake, experiment="photos", name=f"{recipe} on {lake.name}")
    return result.run_id, time.monotonic() - started


def network(
    recipe: str, lake: Path, pretrain: Path | None, parallel: int, overrides: dict[str, Any]
) -> dict[str, Any]:
    """A cross-validation of the recipe: its test predictions, and how long it took."""
    from trainer import catalog
    from trainer.crossval import crossval
    from trainer.overrides import with_overrides
    from trainer.scorecard.evaluate import read_predictions

    run = with_overrides(catalog.recipe(recipe), overrides)
    init, before = pretrained(recipe, pretrain, overrides) if pretrain else (None, 0.0)
    started = time.monotonic()
    result = crossval(run, lake, FOLDS, parallel=parallel, experiment="photos", init=init)
    seconds = before + time.monotonic() - started
    print(f"{recipe}: {seconds:.0f} s", json.dumps(result.as_json())[:400], flush=True)
    parts = [read_predictions(fold.directory / "predictions.npz") for fold in result.folds]
    return {
        "seconds": seconds,
        "images_per_second": result.images_per_second,
        "rows": np.concatenate([part.rows for part in parts]),
        "labels": np.concatenate([part.labels for part in parts]),
        "predicted": np.concatenate([part.predicted for part in parts]),
        "subjects": np.concatenate([part.subjects for part in parts]),
    }


def measured(values: dict[str, np.ndarray], peer: np.ndarray | None) -> dict[str, Any]:
    """Accuracy and mean class recall with intervals, and the difference to the peer."""
    from trainer.scorecard.intervals import subject_intervals

    own = confusions(values)
    card = {
        name: {"value": item.value, "low": item.low, "high": item.high}
        for name, item in subject_intervals(own).items()
    }
    card["confusion"] = own.sum(axis=0).astype(int).tolist()
    if peer is not None:
        card["macro_recall_minus_hog"] = gap(own, peer)
    return card


def gap(ours: np.ndarray, peer: np.ndarray) -> dict[str, float]:
    """The paired difference of mean class recall over the same subjects."""
    from trainer.scorecard.intervals import paired_difference
    from trainer.scorecard.statistics import macro_recall

    found = paired_difference(ours, peer, macro_recall)
    return {"value": found.value, "low": found.low, "high": found.high, "p": found.p}


def lake_of(path: Path) -> dict[str, Any]:
    """What names a lake."""
    from data_service.lakes.lake import Lake

    manifest = Lake.open(path).manifest
    return {"corpus": manifest.corpus, "faces": manifest.count, "hash": manifest.hash}


def environment() -> dict[str, Any]:
    """The machine and the code that were measured."""
    import torch

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Measure what is asked for; what the file holds already is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--pretrain", type=Path, metavar="LAKE")
    parser.add_argument("--recipes", nargs="*", default=["fersnet.small"])
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/photos.json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    overrides = dict(text.split("=", 1) for text in arguments.set)
    trained = {
        recipe: network(recipe, arguments.lake, arguments.pretrain, arguments.parallel, overrides)
        for recipe in arguments.recipes
    }
    hogs = {crop: hog_predictions(arguments.lake, crop) for crop in (48, 56)}
    best = max(hogs, key=lambda crop: measured(hogs[crop], None)["macro_recall"]["value"])
    for crop, values in hogs.items():
        results[f"hog_{crop}px"] = measured(values, None)
    for recipe, values in trained.items():
        card = measured(values, confusions(hogs[best]))
        card |= {"seconds": values["seconds"], "images_per_second": values["images_per_second"]}
        if arguments.pretrain:
            card["pretrained_on"] = lake_of(arguments.pretrain)
            recipe = f"{recipe} (pre-trained)"
        results[recipe] = card | {"overrides": overrides}
        print(recipe, card["macro_recall"], card["macro_recall_minus_hog"], flush=True)
    pairs = results.setdefault("macro_recall_minus_the_one_before", {})
    how = " (pre-trained)" if arguments.pretrain else ""
    for before, recipe in itertools.pairwise(trained):
        found = gap(*(confusions(trained[one]) for one in (recipe, before)))
        pairs[f"{recipe} - {before}{how}"] = found | {"overrides": overrides}
    results["peer"] = f"hog_{best}px"
    results["environment"] = environment()
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

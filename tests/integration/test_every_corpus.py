"""Every corpus, by its existence, from a miniature tree in its real layout to a training step.

The tree of a corpus is built by `build(root)` of tests/corpora/<name>.py, which may also give the
OPTIONS that it is scanned with.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_service import corpora
from data_service.alignment.align import Aligner
from data_service.folds import Fold
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.streaming.batches import to_batch
from data_service.streaming.source import FaceSource
from trainer import catalog, feed
from trainer.feed import default_fold
from trainer.loop import begin, fit
from trainer.overrides import with_overrides
from trainer.world import World

SIDE = 56
DATA = {"data.global_batch_images": 8, "data.image_size": 48}
STEP = {"fersnet": {"system.balance": False, **DATA}, "identity": DATA}
RECIPES = {"fersnet": "fersnet.small_single_task", "identity": "identity.tiny"}


@pytest.mark.parametrize("name", corpora.names())
def test_from_a_miniature_tree_to_a_training_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no detector was made for drawn faces, and its time would be most of the test's
    monkeypatch.setattr(Aligner, "find", lambda self, image_HW3: ("centre", None))
    tree = importlib.import_module(f"tests.corpora.{name}")
    options = getattr(tree, "OPTIONS", {})
    report = ingest(
        name, tree.build(tmp_path / "source"), tmp_path / "lake", image_size=SIDE, options=options
    )
    assert report.faces == report.found["faces"] > 0
    lake = Lake.open(tmp_path / "lake")
    assert sum(lake.manifest.rejected.values()) == report.rejected
    # a corpus without expressions has identities
    _step(lake, "fersnet" if set(report.by_class) - {"unlabelled"} else "identity")


def _step(lake: Lake, system: str) -> None:
    """Splits the lake as `mien train` does by default and takes one step of a small recogniser."""
    run = with_overrides(catalog.recipe(RECIPES[system]), STEP[system])
    run = replace(run, data=replace(run.data, classes=()))
    spec = catalog.load(system)
    official = default_fold(lake) == feed.OFFICIAL
    data = feed.prepare(run, spec, lake, feed.OFFICIAL if official else "1/2")
    _apart(lake, data.fold)
    training = begin(run, spec.build(run.system, data.info), World.alone())
    training.stages = tuple(replace(stage, images=8) for stage in training.stages[:1])
    plan = feed.plan_of(run, data, lake, training.stages, None)
    source = FaceSource(lake=lake.path, plan=plan, side=48, augment=run.data.augment)
    batch = to_batch(source.batch(0), "cpu", run.data.augment, grey=run.data.grey)
    result = next(fit(training, iter([batch])))
    assert result.terms and all(bool(torch.isfinite(term)) for term in result.terms.values())


def _apart(lake: Lake, fold: Fold) -> None:
    """No part is empty, and no subject is in two."""
    parts = [fold.train_rows, fold.validation_rows, fold.test_rows]
    assert all(len(rows) for rows in parts)
    subjects = [set(lake.table["subject"].take(rows).to_pylist()) - {None} for rows in parts]
    assert not subjects[0] & subjects[1] and not (subjects[0] | subjects[1]) & subjects[2]

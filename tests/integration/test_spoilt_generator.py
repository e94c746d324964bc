"""A generator that is spoilt on purpose: what the gate lets pass of it, and what that costs.

Shapes: N faces of the pool or of the fold, B of a batch, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import Tensor

from benchmarks.drawn import hog_features
from data_service.folds import class_codes
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.planning.synthetic_slots import most_share
from data_service.synthesis.attempts import Admission, Attempts
from data_service.synthesis.fill import seal_pool
from data_service.synthesis.pool import SealedPool
from data_service.transforms import centre_crop
from trainer import catalog, feed
from trainer.config import PoolConfig
from trainer.feed import TrainingData
from trainer.overrides import with_overrides
from trainer.synthetic.admission import CrossFittedGate

pytestmark = pytest.mark.slow

FOLD, SHARE, SIDE, MORE = "1/3", 0.4, 32, 60
RUN = with_overrides(
    catalog.recipe("baseline.tiny"),
    {"data.image_size": SIDE, "data.classes": "anger,happiness,neutral,surprise"},
)


class Spoilt:
    """Instead of a face with the target expression, a real one of a training subject, or none.

    `good`: the same subject with the expression, as it should be; `wrong`: the same subject with
    another one; `source`: the face itself; `half`: good or wrong; `stranger`: another subject with
    the expression; `one`: one face with the expression, for all; `noise`: uniform noise.
    """

    grey = False

    def __init__(self, kind: str, lake: Lake, data: TrainingData) -> None:
        rows = data.fold.train_rows
        self.kind = self.hash = kind
        self.side = SIDE
        self._faces = centre_crop(torch.tensor(lake.faces[rows]).permute(0, 3, 1, 2), SIDE)
        self._place = {face.numpy().tobytes(): index for index, face in enumerate(self._faces)}
        self._classes = class_codes(lake.table, data.classes)[rows]
        self._subjects = np.array(lake.table["subject"].to_pylist())[rows]

    def __call__(self, faces_BCHW: Tensor, target_expression_B: Tensor) -> Tensor:
        pairs = zip(faces_BCHW, target_expression_B.tolist(), strict=True)
        return torch.stack([self._made(face, target) for face, target in pairs])

    def _made(self, face_CHW: Tensor, target: int) -> Tensor:
        source = self._place[face_CHW.contiguous().numpy().tobytes()]
        rng = np.random.default_rng([source, target])
        if self.kind == "noise":
            return torch.from_numpy(rng.uniform(-1, 1, face_CHW.shape).astype(np.float32))
        own, aimed = self._subjects == self._subjects[source], self._classes == target
        kind = rng.choice(["good", "wrong"]) if self.kind == "half" else self.kind
        allowed = {
            "good": own & aimed,
            "wrong": own & ~aimed,
            "source": np.arange(len(own)) == source,
            "stranger": ~own & aimed,
            "one": aimed,
        }[kind]
        if kind == "one":
            return self._faces[np.flatnonzero(allowed)[0]]
        gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-0.05, 0.05)
        return (self._faces[rng.choice(np.flatnonzero(allowed))] * gain + offset).clamp(-1, 1)


class Open:
    """No gate."""

    hash, chance = "open", (0.0,) * 4

    def __call__(self, attempts: Attempts) -> tuple[str, ...]:
        return ("",) * len(attempts.source_rows)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    path = tmp_path_factory.mktemp("spoilt") / "lake"
    ingest("drawn", None, path, image_size=SIDE, options={"subjects": 75, "faces_per_subject": 24})
    return Lake.open(path)


@pytest.fixture(scope="module")
def data(lake: Lake) -> TrainingData:
    return feed.prepare(RUN, feed.spec_of(RUN), lake, FOLD)


@pytest.fixture(scope="module")
def gate(
    lake: Lake, data: TrainingData, tmp_path_factory: pytest.TempPathFactory
) -> CrossFittedGate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(tmp_path_factory.mktemp("home")))
        system = feed.spec_of(RUN).build(RUN.system, data.info)
        return CrossFittedGate.train(RUN, system, data, lake, PoolConfig())


def filled(
    kind: str, lake: Lake, data: TrainingData, admission: Admission, path: Path
) -> SealedPool:
    return seal_pool(
        lake,
        data.fold,
        data.classes,
        Spoilt(kind, lake, data),
        admission,
        path=path / kind / admission.hash[:4],
        until=max(data.info.class_images) + MORE,
        copy_gate=0.0 if isinstance(admission, Open) else PoolConfig().copy_gate,
    )


def accuracy(lake: Lake, data: TrainingData, pool: SealedPool | None) -> float:
    """Of a linear SVM on HOG, on the test subjects; of the pool it sees the share that the plan
    would show, at most SHARE."""
    codes = class_codes(lake.table, data.classes)
    rows = data.fold.train_rows
    seen, labels, weights = hog_features(lake.faces[rows]), codes[rows], np.ones(len(rows))
    if pool is not None and len(pool):
        share = float(min(SHARE, most_share(len(rows), len(pool))))
        each = share / (1 - share) * len(rows) / len(pool)
        seen = np.concatenate([seen, hog_features(pool.faces)])
        labels = np.concatenate([labels, class_codes(pool.table, data.classes)])
        weights = np.concatenate([weights, np.full(len(pool), each)])
    model = LinearSVC(C=0.1, random_state=0).fit(seen, labels, weights)
    tested = data.fold.test_rows
    return float(np.mean(model.predict(hog_features(lake.faces[tested])) == codes[tested]))


def test_a_good_generator_fills_the_classes(lake, data, gate, tmp_path) -> None:
    pool = filled("good", lake, data, gate, tmp_path)
    assert pool.manifest.admitted == pool.manifest.wanted


@pytest.mark.parametrize("kind", ["noise", "wrong", "source", "one"])
def test_what_shows_no_face_with_the_expression_is_kept_out(
    kind: str, lake, data, gate, tmp_path
) -> None:
    """At most a face in fifty attempts' batch, before the rate of the class is known."""
    pool = filled(kind, lake, data, gate, tmp_path)
    print(kind, pool.manifest.admitted, pool.manifest.attempts, pool.manifest.refused)
    assert len(pool) <= 0.02 * sum(pool.manifest.wanted.values())


def test_most_faces_of_another_subject_are_refused_for_it(lake, data, gate, tmp_path) -> None:
    """Of those that show a face with the expression."""
    own = filled("stranger", lake, data, gate, tmp_path).manifest
    shown = sum(own.attempts.values()) - own.refused["no face"] - own.refused["expression"]
    print(own.attempts, own.refused)
    assert own.refused["identity"] > 0.5 * shown > 0


@pytest.mark.parametrize("kind", ["noise", "wrong", "source", "one", "half", "stranger"])
def test_the_gate_keeps_the_loss_within_a_point(kind: str, lake, data, gate, tmp_path) -> None:
    without = accuracy(lake, data, None)
    pool = filled(kind, lake, data, gate, tmp_path)
    found = accuracy(lake, data, pool)
    print(kind, len(pool), pool.manifest.refused, without, found)
    assert found >= without - 0.01


@pytest.mark.parametrize("kind", ["wrong", "source"])
def test_without_a_gate_it_would_have_cost_much_more(kind: str, lake, data, tmp_path) -> None:
    pool = filled(kind, lake, data, Open(), tmp_path)
    print(kind, accuracy(lake, data, pool))
    assert accuracy(lake, data, pool) < accuracy(lake, data, None) - 0.05

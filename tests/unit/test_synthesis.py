"""Sealed pools: filled as asked, from training faces only, the same after an interruption."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_service.folds import Fold
from data_service.lakes.lake import Lake, LakeWriter
from data_service.planning.plan import DataNeeds, Plan, StagePlan
from data_service.schema import Expression, face_schema
from data_service.synthesis.attempts import Maker, Work
from data_service.synthesis.fill import (
    ATTEMPTS_PER_FACE,
    CHANCE,
    EXAMPLES,
    NEAR_COPY,
    least_rate,
    seal_pool,
)
from data_service.synthesis.pool import SealedPool

SIDE, SEEN, ROWS = 12, 8, 60
CLASSES = (Expression.ANGER, Expression.FEAR, Expression.HAPPINESS)
COUNTS = {"anger": 20, "fear": 6, "happiness": 14}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthesis")
    schema = face_schema(SIDE, 3)
    names = [name for name, count in COUNTS.items() for _ in range(count)]
    names += ["anger", "fear"] * 10
    images = np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8)
    values = {
        "sample_id": [f"{row:020d}" for row in range(ROWS)],
        "corpus": ["drawn"] * ROWS,
        "name": [f"{row:04d}" for row in range(ROWS)],
        "subject": [f"p{row // 3}" for row in range(ROWS)],
        "expression": names,
        "alignment": ["none"] * ROWS,
        "confidence": [1.0] * ROWS,
        "perceptual_hash": [0] * ROWS,
    }
    columns = [
        pa.array(values.get(name, [None] * ROWS), schema.field(name).type)
        for name in schema.names[:-1]
    ]
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), SIDE * SIDE * 3)
    columns.append(pa.ExtensionArray.from_storage(schema.field("image").type, pixels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_CACHE", str(folder / "cache"))
        writer = LakeWriter(
            folder / "lake", corpus="drawn", image_size=SIDE, channels=3, source_hash=""
        )
        writer.append(pa.Table.from_arrays(columns, schema=schema))
        writer.finish([], {}, {})
        yield Lake.open(folder / "lake")


FOLD = Fold(
    index=1,
    num_folds=3,
    train_rows=np.arange(40),
    validation_rows=np.arange(40, 50),
    test_rows=np.arange(50, 60),
)


class Inverter:
    """Says "expression" by inverting the face and shading it by the target."""

    hash, side, grey = "inverter", SEEN, False

    def __init__(self, calls_left=10**9):
        self.calls_left = calls_left
        self.calls = 0

    def __call__(self, faces_BCHW, target_expression_B):
        if self.calls == self.calls_left:
            raise KeyboardInterrupt
        self.calls += 1
        return (target_expression_B.view(-1, 1, 1, 1) * 0.1 - faces_BCHW).clamp(-1, 1)


class EveryThird:
    """Admits sources whose row divides by three."""

    hash, chance = "every third", (0.0, 0.0, 0.0)

    def __call__(self, attempts):
        return tuple("not a third" if row % 3 else "" for row in attempts.source_rows)


class Everybody:
    hash, chance = "everybody", (0.0, 0.0, 0.0)

    def __call__(self, attempts):
        return ("",) * len(attempts.source_rows)


class OneFace(Inverter):
    """Makes one face of everybody, a little brighter with every call."""

    hash = "one face"

    def __call__(self, faces_BCHW, target_expression_B):
        self.calls += 1
        return torch.full_like(faces_BCHW, self.calls * 0.004 - 1)


def seal(lake, path, synthesiser=None, admission=None, **changes):
    settings = {"path": path, "batch": 7} | changes
    synthesiser = synthesiser or Inverter()
    return seal_pool(lake, FOLD, CLASSES, synthesiser, admission or Everybody(), **settings)


def test_classes_are_filled_until_equal(lake, tmp_path):
    seen = []
    pool = seal(lake, tmp_path / "pool", progress=lambda done, wanted: seen.append((done, wanted)))
    assert pool.manifest.wanted == {"anger": 0, "fear": 14, "happiness": 6}
    assert pool.manifest.admitted == pool.manifest.wanted
    assert seen[-1] == (20, 20)
    assert len(pool) == len(pool.table) == len(pool.faces) == 20
    assert pool.table["expression"].to_pylist() == ["fear"] * 14 + ["happiness"] * 6
    assert len(set(pool.table["row_id"].to_pylist())) == 20
    assert not list(pool.path.glob(".parts*"))
    pool.verify()
    assert pool.manifest.attempts == pool.manifest.admitted  # what came when a class was full: none
    assert set(pool.manifest.admission_rates.values()) == {1.0}


def test_sources_are_expected_before_they_are_read(lake, monkeypatch):
    """Of a lake larger than memory they are read together, and let go of again."""
    expected = []
    monkeypatch.setattr(lake.mapped, "expect", expected.append)
    rows = np.array([7, 2])
    made = Maker(lake, Inverter(), Everybody())(Work(first=0, klass=1, source_rows=rows))
    assert made.reasons == ("", "") and [list(one) for one in expected] == [[7, 2]]


def test_sources_are_training_faces_of_other_classes(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool", until=60)
    assert pool.manifest.wanted == {"anger": 40, "fear": 54, "happiness": 46}
    expressions, subjects = (lake.table[name].to_pylist() for name in ("expression", "subject"))
    for row in pool.table.to_pylist():
        assert row["source_row"] in FOLD.train_rows
        assert expressions[row["source_row"]] != row["expression"]
        assert subjects[row["source_row"]] == row["subject"]
    fear = [row["source_row"] for row in pool.table.to_pylist() if row["expression"] == "fear"]
    assert sorted(fear[:34]) == [row for row in range(40) if expressions[row] != "fear"]


def test_the_synthetic_middle_stands_in_its_sources_margin(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool")
    row = pool.table.to_pylist()[0]
    source, made = lake.faces[row["source_row"]], pool.faces[0]
    assert np.array_equal(made[:2], source[:2]) and np.array_equal(made[:, 10:], source[:, 10:])
    expected = (0.1 * 127.5 + 255 - source[2:10, 2:10].astype(float)).clip(0, 255)
    assert np.abs(made[2:10, 2:10] - expected).max() <= 1


def test_the_gate_decides_and_a_class_may_stay_short(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool", admission=EveryThird(), copy_gate=0.01)
    manifest = pool.manifest
    assert all(row % 3 == 0 for row in pool.table["source_row"].to_pylist())
    assert manifest.admitted["fear"] < manifest.wanted["fear"]
    assert manifest.attempts["fear"] == 14 * ATTEMPTS_PER_FACE
    assert manifest.admitted["fear"] == len(
        {row["source_row"] for row in pool.table.to_pylist() if row["expression"] == "fear"}
    )
    assert set(manifest.refused) == {"not a third", NEAR_COPY}
    rate = manifest.admission_rates["fear"]
    assert rate == manifest.admitted["fear"] / manifest.attempts["fear"]


def test_no_admitted_face_is_nearly_another_whatever_its_source(lake, tmp_path):
    gate = 0.0199 / 2
    pool = seal(lake, tmp_path / "pool", OneFace(), until=40, copy_gate=gate)
    greys = pool.faces[:, 2, 2, 0].astype(int)
    assert len(greys) > 5 and len(set(pool.table["source_row"].to_pylist())) > 1
    assert np.diff(np.sort(greys)).min() >= gate * 255
    assert set(pool.manifest.refused) == {NEAR_COPY}


def test_a_class_that_passes_as_seldom_as_the_gate_errs_stays_empty(lake, tmp_path):
    class Erring(EveryThird):
        chance = (0.0, 0.3, 0.1)

    assert least_rate(0.3) > 0.4 > 1 / 3 > least_rate(0.1)
    manifest = seal(lake, tmp_path / "pool", admission=Erring(), batch=40).manifest
    assert manifest.admitted == {"anger": 0, "fear": 0, "happiness": manifest.wanted["happiness"]}
    assert manifest.refused[CHANCE] > 14 * ATTEMPTS_PER_FACE / 4
    assert least_rate(0.0) == 0 and least_rate(1.0) == 1


def test_refused_faces_are_kept_as_examples(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool", admission=EveryThird(), copy_gate=0.01)
    rows = pool.refused.to_pylist()
    counts = Counter((row["expression"], row["reason"]) for row in rows)
    assert set(counts.values()) == {EXAMPLES}
    assert {reason for _, reason in counts} == {"not a third", NEAR_COPY}
    first = next(row for row in rows if row["reason"] == "not a third")
    face_HWC = np.frombuffer(first["pixels"], np.uint8).reshape(SIDE, SIDE, 3)
    source_HWC = lake.faces[first["source_row"]]
    assert first["source_row"] % 3 and np.array_equal(face_HWC[:2], source_HWC[:2])
    assert not set(pool.refused["row_id"].to_pylist()) & set(pool.table["row_id"].to_pylist())


def test_an_interrupted_job_goes_on_to_the_same_pool(lake, tmp_path):
    whole = seal(lake, tmp_path / "whole", admission=EveryThird(), copy_gate=0.01)
    path = tmp_path / "broken"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            seal(lake, path, Inverter(calls_left=5), EveryThird(), copy_gate=0.01)
    with pytest.raises(ValueError, match="no sealed pool"):
        SealedPool.open(path)
    last = Inverter()
    resumed = seal(lake, path, last, EveryThird(), copy_gate=0.01)
    assert resumed.hash == whole.hash
    assert (path / "manifest.json").read_bytes() == (whole.path / "manifest.json").read_bytes()
    again = Inverter(calls_left=0)
    assert seal(lake, path, again, EveryThird(), copy_gate=0.01).hash == whole.hash
    assert pool_files(path) == pool_files(whole.path)


def pool_files(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_another_recipe_is_refused(lake, tmp_path):
    seal(lake, tmp_path / "pool")
    with pytest.raises(ValueError, match="choose another folder"):
        seal(lake, tmp_path / "pool", seed=1)


def test_damage_is_told(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool")
    manifest, faces = pool.path / "manifest.json", pool.path / "faces.bin"
    whole, pixels = manifest.read_text(), faces.read_bytes()
    manifest.write_text(json.dumps(json.loads(whole) | {"format_version": 9, "more": 1}))
    with pytest.raises(ValueError, match="newer version"):
        SealedPool.open(pool.path)
    manifest.write_text(whole[:50])
    with pytest.raises(ValueError, match="damaged pool"):
        SealedPool.open(pool.path)
    manifest.write_text(whole)
    faces.write_bytes(pixels[:-1])
    with pytest.raises(ValueError, match="damaged pool"):
        SealedPool.open(pool.path)
    faces.write_bytes(pixels[:-1] + bytes([pixels[-1] ^ 1]))
    with pytest.raises(ValueError, match="content has changed"):
        SealedPool.open(pool.path).verify()


def test_a_plan_shows_every_face_alike_with_the_pool(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool")
    stages = [StagePlan(images=600, needs=DataNeeds(synthetic_share="proportional"))]
    plan = Plan(lake.table, FOLD, CLASSES, stages, 10, 0, pool.table)
    rows = np.concatenate([plan.step(k).rows for k in range(plan.num_steps)])
    expressions = np.concatenate([plan.step(k).expression for k in range(plan.num_steps)])
    assert set(np.unique(rows)) == {*range(40), *range(60, 80)}
    assert set(np.bincount(expressions)) == {200}


def test_nothing_to_fill(lake, tmp_path):
    pool = seal(lake, tmp_path / "pool", until=5)
    assert len(pool) == 0 and pool.faces.shape == (0, SIDE, SIDE, 3)


def test_grey_generators(lake, tmp_path):
    class Grey(Inverter):
        grey = True

    pool = seal(lake, tmp_path / "pool", Grey())
    middle = pool.faces[:, 2:10, 2:10]
    assert (middle == middle[..., :1]).all()

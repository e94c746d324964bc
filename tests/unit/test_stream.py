"""Batches: what the plan says is what the pixels show; the local stream; the step to the device."""

import pickle
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_service.crops import AugmentConfig, Crops
from data_service.folds import make_folds
from data_service.lakes import mapped
from data_service.lakes.lake import Lake, LakeWriter
from data_service.lakes.window import Window
from data_service.planning.plan import DataNeeds, Plan, StagePlan
from data_service.schema import Expression, face_schema
from data_service.streaming import ahead
from data_service.streaming.ahead import LookAhead
from data_service.streaming.batcher import BatchActor
from data_service.streaming.batches import to_batch
from data_service.streaming.packing import batches_of
from data_service.streaming.source import FaceSource
from data_service.streaming.stream import MAX_TASKS, _ranges, open_stream
from data_service.synthesis.pool import EXAMPLE_SCHEMA, PoolManifest, content_hash, write_pool

SIDE, CROP, ROWS = 24, 16, 48
CLASSES = (Expression.ANGER, Expression.FEAR, Expression.HAPPINESS)
WINDOW = Window(faces=12, chunk=5, face_bytes=SIDE**2 * 3)
PLAIN = AugmentConfig(crop_shift_pixels=0, flip=0.0)
BUSY = AugmentConfig(rotation_degrees=10, scale=0.1, contrast=0.2, erase=0.5)
EVERYTHING = DataNeeds(
    partner=("same_subject", "other_class"),
    views=("augmented", "second", "plain"),
    fields=("intensity", "landmarks", "attributes", "votes"),
    target="partner",
)


def write_lake(path):
    """Faces whose every pixel is the number of their row, but for a gradient from left to right."""
    schema = face_schema(SIDE, 3)
    images = np.zeros((ROWS, SIDE, SIDE, 3), np.uint8) + np.arange(SIDE, dtype=np.uint8)[:, None]
    images += np.arange(ROWS, dtype=np.uint8)[:, None, None, None] * 4
    rows = range(ROWS)
    values = {
        "sample_id": [f"{row:020d}" for row in rows],
        "corpus": ["drawn"] * ROWS,
        "name": [f"{row:04d}" for row in rows],
        "subject": [f"p{row // 4:02d}" for row in rows],
        "expression": [str(CLASSES[row % 3]) for row in rows],
        "intensity": [row / ROWS if row % 2 else None for row in rows],
        "attributes": [[("beard", 1.0), ("glasses", row % 2), ("yaw", row + 1.0)] for row in rows],
        "votes": [[("fear", 3.0), ("neutral", 1.0)]] * ROWS,
        "landmarks": [[float(row % SIDE), 7.0, 0.5] * 5 for row in rows],
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
    writer = LakeWriter(path, corpus="drawn", image_size=SIDE, channels=3, source_hash="")
    writer.append(pa.Table.from_arrays(columns, schema=schema))
    writer.finish([], {}, {})
    return Lake.open(path)


def write_small_pool(path, fold):
    table = pa.table(
        {
            "row_id": list("abcdefgh"),
            "source_row": fold.train_rows[:8],
            "subject": ["p", "q"] * 4,
            "expression": ["fear", "anger"] * 4,
            "attempt": range(8),
        }
    )
    faces = np.full((8, SIDE, SIDE, 3), 250, np.uint8)
    manifest = PoolManifest(
        recipe="", lake="", fold="", generator="", gate="", seed=0, count=8, image_size=SIDE,
        channels=3, wanted={}, admitted={}, attempts={}, refused={},
        hash=content_hash(table, faces),
    )  # fmt: skip
    return write_pool(path, manifest, table, faces, EXAMPLE_SCHEMA.empty_table())


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_CACHE", str(folder / "cache"))
        yield write_lake(folder / "lake")


def source_of(lake, *, needs=None, augment=PLAIN, images=160, pool=None, window=None, **changes):
    fold = make_folds(lake.table, 3)[0]
    stages = [StagePlan(images=images, needs=needs or DataNeeds())]
    table = pool and pool.table
    plan = Plan(lake.table, fold, CLASSES, stages, 8, 0, table, window=window)
    settings = {"side": CROP, "attributes": ("glasses", "smile"), "pool": pool and pool.path}
    return FaceSource(lake=lake.path, plan=plan, augment=augment, **(settings | changes))


def test_pixels_are_those_of_the_planned_rows(lake):
    source = source_of(lake, needs=EVERYTHING)
    arrays, step = source.batch(3).arrays(), source.plan.step(3)
    middle = lake.faces[:, 4:20, 4:20]
    assert np.array_equal(arrays["view/augmented"], middle[step.rows])
    for rule in EVERYTHING.partners:
        assert np.array_equal(arrays[f"partner/{rule}/faces"], middle[step.partner_rows[rule]])
        assert np.array_equal(arrays[f"partner/{rule}/valid"], step.partner_valid[rule])
    for name, planned in {"row": step.rows, "key": step.key, "subject": step.subject}.items():
        assert np.array_equal(arrays[name], planned)


def test_views_and_partners_are_cut_as_they_should(lake):
    source = source_of(lake, needs=EVERYTHING, augment=AugmentConfig())
    packed, step = source.batch(0), source.plan.step(0)
    arrays, crops = packed.arrays(), Crops.draw(step.key, SIDE, CROP, AugmentConfig())
    expected = np.empty((8, CROP, CROP, 3), np.uint8)
    crops.cut(lake.faces, step.partner_rows["other_class"], expected)
    assert np.array_equal(arrays["partner/other_class/faces"], expected)
    assert not np.array_equal(arrays["view/augmented"], arrays["view/second"])
    assert np.array_equal(arrays["view/plain"], lake.faces[step.rows, 4:20, 4:20])


def test_fields(lake):
    source = source_of(lake, needs=EVERYTHING)
    arrays, rows = source.batch(2).arrays(), source.plan.step(2).rows
    expected = np.where(rows % 2, rows / ROWS, np.nan).astype(np.float32)
    assert np.array_equal(arrays["intensity"], expected, equal_nan=True)
    assert np.array_equal(arrays["attributes"][:, 0], (rows % 2).astype(np.float32))
    assert np.isnan(arrays["attributes"][:, 1]).all()
    assert (arrays["votes"] == [0, 3, 0]).all()
    assert np.array_equal(arrays["landmarks"][:, 0], [[row % SIDE - 4, 3, 0.5] for row in rows])


def test_yaw_turns_round_with_a_mirrored_face_and_its_partners(lake):
    names = ("yaw", "glasses")
    source = source_of(lake, needs=EVERYTHING, augment=AugmentConfig(), attributes=names)
    arrays, step = source.batch(1).arrays(), source.plan.step(1)
    flip = Crops.draw(step.key, SIDE, CROP, AugmentConfig()).flip_B
    assert 0 < flip.sum() < len(flip)
    sign = np.where(flip, -1, 1)
    assert np.array_equal(arrays["attributes"][:, 0], sign * (step.rows + 1))
    assert np.array_equal(arrays["attributes"][:, 1], step.rows % 2)
    for rule, rows in step.partner_rows.items():
        assert np.array_equal(arrays[f"partner/{rule}/attributes"][:, 0], sign * (rows + 1))


def test_workers_together_see_the_global_batch(lake):
    source = source_of(lake, needs=EVERYTHING, augment=AugmentConfig())
    whole = source.batch(4).arrays()
    parts = [source.batch(4, rank, 4).arrays() for rank in range(4)]
    for name, array in whole.items():
        joined = np.concatenate([part[name] for part in parts])
        assert np.array_equal(joined, array, equal_nan=array.dtype.kind == "f"), name


def test_synthetic_faces_come_from_the_pool(lake, tmp_path):
    fold = make_folds(lake.table, 3)[0]
    pool = write_small_pool(tmp_path / "pool", fold)
    needs = DataNeeds(synthetic_share=0.5, fields=("landmarks", "votes"), partner="same_subject")
    source = source_of(lake, needs=needs, pool=pool)
    arrays = source.batch(1).arrays()
    synthetic = arrays["synthetic"]
    assert synthetic.sum() == 4
    assert (arrays["view/augmented"][synthetic] == 250).all()
    assert (arrays["view/augmented"][~synthetic] != 250).any()
    assert np.isnan(arrays["landmarks"][synthetic]).all()
    names = [CLASSES[index] for index in arrays["expression"][synthetic]]
    assert set(names) == {Expression.FEAR, Expression.ANGER}


def test_a_source_travels_without_what_it_opened(lake):
    source = source_of(lake)
    source.batch(0)
    sent = pickle.dumps(source)
    assert len(sent) < lake.faces.nbytes / 2
    assert np.array_equal(pickle.loads(sent).batch(1).content, source.batch(1).content)


def test_batches_travel_in_one_table(lake):
    source = source_of(lake, needs=EVERYTHING)
    table = next(source.blocks([range(5)])).to_table()
    for step, packed in enumerate(batches_of(table.slice(1)), 1):
        alone = source.batch(step)
        assert (packed.step, packed.specs) == (step, alone.specs)
        assert np.array_equal(packed.content, alone.content)
    assert step == 4
    arrays = packed.arrays()
    for name, array in alone.arrays().items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array, equal_nan=array.dtype.kind == "f")


@pytest.fixture
def expected(monkeypatch):
    """The rows that each step of a lake that is large will use; forty faces are read ahead."""
    told = []
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(mapped, "AHEAD_BYTES", 40 * SIDE * SIDE * 3)
    monkeypatch.setattr(mapped.MappedFaces, "expect", lambda _, rows: told.append(rows))
    return told


@pytest.fixture
def walked(monkeypatch):
    """The spans that enter a window and, with what memory may keep, that leave it."""
    told = {"enter": [], "leave": []}
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    monkeypatch.setattr(ahead, "free_bytes", lambda: 0)
    monkeypatch.setattr(mapped.MappedFaces, "enter", lambda _, spans: told["enter"].append(spans))
    monkeypatch.setattr(
        mapped.MappedFaces, "leave", lambda _, spans, *, keep: told["leave"].append((spans, keep))
    )
    return told


@pytest.mark.parametrize("goes_on", [False, True])
def test_of_a_large_lake_many_steps_are_read_ahead(lake, expected, goes_on):
    """Forty faces: five steps of eight, also across the end of what is built now."""
    source = source_of(lake)
    ahead = source.blocks([range(step, step + 1) for step in range(4, 12)], goes_on=goes_on)
    for number in range(8):
        packed = next(ahead).batches[0]
        assert packed.step == 4 + number
        assert len(expected) == min(number + 6, 13 if goes_on else 8)
        for step, rows in enumerate(expected, 4):
            assert np.array_equal(rows, source.plan.step(step).rows)
    assert next(ahead, None) is None and len(expected) == (13 if goes_on else 8)


def test_reading_ahead_ends_with_the_stage(lake, expected):
    """The next one may need a pool that is not there yet."""
    source = source_of(lake, images=80)
    assert [len(block.batches) for block in source.blocks([range(5, 8)], goes_on=True)] == [3]
    assert len(expected) == 5


def test_partners_are_read_too_and_synthetic_faces_are_not(lake, expected, tmp_path):
    pool = write_small_pool(tmp_path / "pool", make_folds(lake.table, 3)[0])
    needs = DataNeeds(synthetic_share=0.5, partner="other_class")
    source = source_of(lake, needs=needs, pool=pool)
    source.batch(1)
    step, rows = source.plan.step(1), expected[0]
    shown = [*step.rows[~step.synthetic], *step.partner_rows["other_class"]]
    assert sorted(rows) == sorted(row for row in shown if row < ROWS)
    assert len(shown) == 12


def test_a_windowed_lake_is_read_in_pieces(lake, walked):
    """Each once an epoch, before a face of it is shown; and it leaves when the window passed it."""
    source = source_of(lake, window=WINDOW, images=160)
    train, steps = make_folds(lake.table, 3)[0].train_rows, source.plan.num_steps
    for block in source.blocks(range(step, step + 1) for step in range(steps)):
        there = {row for spans in walked["enter"] for one in spans for row in range(*one)}
        assert {int(row) for row in block.batches[0].arrays()["row"]} <= there <= set(train)
    first = walked["enter"][0]
    rows = source.plan.step(0).rows
    assert {row for one in first for row in range(*one)} == {
        row for row in train if row // 5 in set(rows // 5)
    }
    left = [chunk for spans, _ in walked["leave"] for chunk in spans[:, 0]]
    entered = sum(len({one[0] // 5 for one in spans.tolist()}) for spans in walked["enter"])
    assert 0 < len(left) <= entered and {keep for _, keep in walked["leave"]} == {0}


def test_a_plan_that_decides_what_it_shows_is_not_asked_early(lake):
    """As that of a live pool, whose windows show what is there when they are planned."""
    plan, large = source_of(lake).plan, SimpleNamespace(faces_ahead=40, is_large=True)
    patient, eager = LookAhead(plan, large, decides=True), LookAhead(plan, large)
    assert (patient.faces, eager.faces) == (0, 40)
    assert list(eager.following(range(3))) == [range(k, min(k + 3, 20)) for k in range(3, 20, 3)]
    assert not list(patient.following(range(3)))
    assert not list(LookAhead(plan, lake.mapped).following(range(3)))


@pytest.mark.parametrize("kind", ["large", "windowed"])
def test_how_a_lake_is_read_changes_no_batch(lake, monkeypatch, kind):
    window = WINDOW if kind == "windowed" else None
    steps = [range(step, step + 1) for step in range(7)]
    small = list(source_of(lake, needs=EVERYTHING, window=window).blocks(steps))
    monkeypatch.setattr(mapped, "LARGE_BYTES", 0)
    large = source_of(lake, needs=EVERYTHING, window=window).blocks(steps, goes_on=True)
    for one, other in zip(small, large, strict=True):
        assert np.array_equal(one.content, other.content)


def test_the_actor_reads_on_into_what_it_will_be_asked_for_next(lake, expected):
    actor = BatchActor(source_of(lake), rank=0, world=1, block_steps=2)
    (table,) = actor(pa.table({"start": [0], "stop": [2]}))
    assert table["step"].to_pylist() == [0, 1]
    assert len(expected) == 8


def test_to_batch(lake):
    source = source_of(lake, needs=EVERYTHING, augment=BUSY)
    packed = next(batches_of(next(source.blocks([range(1, 2)])).to_table()))
    batch = to_batch(packed, "cpu", BUSY)
    assert batch.faces_BCHW.shape == (8, 3, CROP, CROP)
    assert batch.faces_BCHW.dtype == torch.float32 and batch.faces_BCHW.abs().max() <= 1
    assert batch.views["augmented"] is batch.faces_BCHW
    assert list(batch.views) == ["augmented", "second", "plain"]
    assert set(batch.partners) == set(batch.partner_valid) == set(EVERYTHING.partners)
    assert batch.partner_valid["same_subject"].dtype == torch.bool
    assert np.array_equal(batch.key_B.numpy().view(np.uint64), source.plan.step(1).key)
    assert batch.landmarks_BL3.shape == (8, 5, 3) and batch.votes_BK.shape == (8, 3)
    assert to_batch(packed, "cpu", BUSY, grey=True).faces_BCHW.shape == (8, 1, CROP, CROP)
    halves = [to_batch(source.batch(1, rank, 2), "cpu", BUSY) for rank in range(2)]
    for name in ("faces_BCHW", "landmarks_BL3", "expression_B"):
        joined = torch.cat([getattr(half, name) for half in halves])
        assert torch.allclose(joined, getattr(batch, name), atol=1e-5), name


def test_the_local_stream_follows_the_plan(lake):
    source = source_of(lake, augment=AugmentConfig())
    with open_stream(source, start=5, stop=20, prefetch=3) as stream:
        got = list(stream)
    assert [packed.step for packed in got] == list(range(5, 20))
    for packed in got:
        assert np.array_equal(packed.content, source.batch(packed.step).content)


def test_the_local_stream_stays_within_its_bounds_and_ends(lake):
    source = source_of(lake, images=80000)
    with open_stream(source, start=0, stop=10000, prefetch=3) as stream:
        assert next(stream).step == 0
        time.sleep(0.05)
        assert stream._results.qsize() <= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_an_error_reaches_who_waits_for_the_batch(lake):
    source = source_of(lake, needs=DataNeeds(synthetic_share=0.5))
    with open_stream(source, start=0, stop=2) as stream:
        for _ in range(2):
            with pytest.raises(ValueError, match="no sealed pool"):
                next(stream)


def test_tasks_cover_every_step_once():
    for start, stop in ((0, 1), (5, 261), (5, 262), (0, 10**6)):
        ranges = _ranges(start, stop)
        assert ranges[0]["start"] == start and ranges[-1]["stop"] == stop
        assert all(one["stop"] == two["start"] for one, two in pairwise(ranges))
        assert ranges[0]["stop"] == start + 1 and len(ranges) <= MAX_TASKS + 1

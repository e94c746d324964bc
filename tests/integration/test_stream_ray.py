"""The stream as a Ray Data execution: the same batches, from any step, and nothing left behind."""

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.util.state import list_actors

from data_service.crops import AugmentConfig
from data_service.folds import make_folds
from data_service.lakes.lake import Lake, LakeWriter
from data_service.planning.plan import DataNeeds, Plan, StagePlan
from data_service.schema import Expression, face_schema
from data_service.streaming.source import FaceSource
from data_service.streaming.stream import STEPS_PER_TASK, open_stream

pytestmark = pytest.mark.usefixtures("ray_session")

SIDE, ROWS = 24, 60
CLASSES = (Expression.ANGER, Expression.FEAR, Expression.HAPPINESS)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Iterator[FaceSource]:
    """Noise as faces, in two stages whose batches differ."""
    folder = tmp_path_factory.mktemp("stream")
    schema = face_schema(SIDE, 3)
    values = {
        "sample_id": [f"{row:020d}" for row in range(ROWS)],
        "corpus": ["drawn"] * ROWS,
        "name": [f"{row:04d}" for row in range(ROWS)],
        "subject": [f"p{row // 3}" for row in range(ROWS)],
        "expression": [str(CLASSES[row % 3]) for row in range(ROWS)],
        "alignment": ["none"] * ROWS,
        "confidence": [1.0] * ROWS,
        "perceptual_hash": [0] * ROWS,
    }
    columns = [
        pa.array(values.get(name, [None] * ROWS), schema.field(name).type)
        for name in schema.names[:-1]
    ]
    noise = np.random.default_rng(0).integers(0, 256, ROWS * SIDE * SIDE * 3, dtype=np.uint8)
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(noise), SIDE * SIDE * 3)
    columns.append(pa.ExtensionArray.from_storage(schema.field("image").type, pixels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_CACHE", str(folder / "cache"))
        path = folder / "lake"
        writer = LakeWriter(path, corpus="drawn", image_size=SIDE, channels=3, source_hash="")
        writer.append(pa.Table.from_arrays(columns, schema=schema))
        writer.finish([], {}, {})
        table = Lake.open(path).table
        stages = [
            StagePlan(images=8 * 400, needs=DataNeeds(partner="same_subject")),
            StagePlan(images=8 * 400, needs=DataNeeds(batch_images=4, views=("plain",))),
        ]
        plan = Plan(table, make_folds(table, 3)[0], CLASSES, stages, 8, 0)
        yield FaceSource(lake=path, plan=plan, side=16, augment=AugmentConfig())


def builders() -> list[int]:
    """The processes that build batches now."""
    here = ray.get_runtime_context().gcs_address
    alive = list_actors(address=here, filters=[("state", "=", "ALIVE")])
    return [actor.pid for actor in alive if "BatchActor" in actor.class_name]


def wait_until_none_builds() -> None:
    deadline = time.monotonic() + 20
    while builders():
        assert time.monotonic() < deadline, "a process that builds batches was left behind"
        time.sleep(0.1)


def test_ray_and_thread_give_the_same_batches_across_tasks_and_stages(source):
    first = 400 - STEPS_PER_TASK // 4
    last = first + STEPS_PER_TASK + 20
    with (
        open_stream(source, start=first, stop=last, rank=1, world=2, kind="ray") as stream,
        open_stream(source, start=first, stop=last, rank=1, world=2, kind="local") as thread,
    ):
        for expected in thread:
            got = next(stream)
            assert (got.step, got.specs) == (expected.step, expected.specs)
            assert np.array_equal(got.content, expected.content)
        assert next(stream, None) is None
    wait_until_none_builds()


def test_leaving_in_the_middle_leaves_nothing_behind(source):
    with open_stream(source, start=0, stop=700, kind="ray", prefetch=2) as stream:
        assert [next(stream).step for _ in range(5)] == list(range(5))
        assert len(builders()) == 1
    wait_until_none_builds()


def test_a_killed_builder_is_replaced_and_no_batch_is_lost(source):
    with open_stream(source, start=0, stop=300, kind="ray", prefetch=2) as stream:
        steps = [next(stream).step for _ in range(10)]
        (builder,) = builders()
        os.kill(builder, signal.SIGKILL)
        steps += [packed.step for packed in stream]
    assert steps == list(range(300))


def test_workers_that_hold_every_cpu_do_not_starve_the_stream(source):
    @ray.remote(num_cpus=1)
    def worker(rank: int) -> list[int]:
        with open_stream(source, start=3, stop=30, rank=rank, world=2, kind="ray") as stream:
            return [packed.step for packed in stream]

    assert ray.get([worker.remote(rank) for rank in range(2)]) == [list(range(3, 30))] * 2


def test_nothing_is_left_at_the_end(source):
    with open_stream(source, start=800, stop=800, kind="ray") as stream:
        assert list(stream) == []

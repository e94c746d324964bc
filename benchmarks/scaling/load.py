"""What many workers would ask of one, and of the coordinator, in CPU time."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scaling.processes import IMAGES_PER_WORKER

WORLDS = (8, 64, 256)


def milliseconds(action: Callable[[int], Any], times: int) -> float:
    """CPU time of this process, the median over `times` calls, which get the number of the call."""
    seconds = []
    for number in range(times):
        began = time.process_time()
        action(number)
        seconds.append(time.process_time() - began)
    return 1e3 * statistics.median(seconds)


def data(lake: Path, recipe: str) -> dict[int, dict[str, float]]:
    """Per step: the plan, which every worker makes whole, and the pixels of one worker's shard."""
    from data_service.lakes.lake import Lake
    from data_service.streaming.source import FaceSource
    from trainer import catalog, feed
    from trainer.overrides import with_overrides

    opened, found = Lake.open(lake), {}
    for world in WORLDS:
        settings = {"data.global_batch_images": IMAGES_PER_WORKER * world, "system.images": 10**8}
        run = with_overrides(catalog.recipe(recipe), settings)
        spec = feed.spec_of(run)
        prepared = feed.prepare(run, spec, opened, "1/5")
        stages = spec.build(run.system, prepared.info).stages()
        plan = feed.plan_of(run, prepared, opened, stages, None)
        side, augment = run.data.image_size, run.data.augment
        source = FaceSource(lake=lake, plan=plan, side=side, augment=augment)
        source.batch(0, 0, world)
        found[world] = {
            "plan_milliseconds": milliseconds(plan.step, 50),
            "batch_milliseconds": milliseconds(
                lambda step, s=source, w=world: s.batch(step, 0, w), 50
            ),
        }
    return found


def saving(lake: Path, recipe: str) -> dict[str, float]:
    """The picture of a training, which its steps wait for, and its writing, which they do not."""
    from data_service.lakes.lake import Lake
    from trainer import catalog, checkpoint, feed
    from trainer.loop import begin, fit
    from trainer.overrides import with_overrides
    from trainer.world import World

    run = with_overrides(catalog.recipe(recipe), {"data.stream": "local"})
    opened, spec = Lake.open(lake), feed.spec_of(run)
    prepared = feed.prepare(run, spec, opened, "1/5")
    training = begin(run, spec.build(run.system, prepared.info), World.alone())
    with feed.open_batches(prepared, opened, None, training, None) as batches:
        moving = fit(training, batches)
        for _ in range(3):
            next(moving)
    with tempfile.TemporaryDirectory() as name:
        written = []

        def write(number: int) -> None:
            written.append(checkpoint.write(Path(name) / str(number), picture))

        picture = checkpoint.capture(training, {})
        assert picture is not None
        return {
            "picture_milliseconds": milliseconds(lambda _: checkpoint.capture(training, {}), 10),
            "write_milliseconds": milliseconds(write, 10),
            "megabytes": (written[0] / "state.safetensors").stat().st_size / 1e6,
        }


def telling(points: int = 20, steps: int = 500) -> dict[str, float]:
    """A logged step of rank 0, and how many points a second its thread gets into MLflow."""
    from trainer.tracking.tracker import Tracker, create_run

    with tempfile.TemporaryDirectory() as name:
        uri = f"sqlite:///{name}/mlflow.db"
        run_id = create_run(uri, "scaling", "a run", tags={}, params={})
        tracker = Tracker(uri, run_id, Path(name) / "journal.jsonl", system_metrics=False)
        values = {f"train/term_{number}": 0.5 for number in range(points)}
        per_step = milliseconds(lambda step: tracker.metrics(values, step), steps)
        per_commit = milliseconds(lambda _: tracker.commit(steps), 1)
        began = time.process_time()
        assert tracker.close("FINISHED", timeout_seconds=300)
        return {
            "log_milliseconds": per_step,
            "commit_milliseconds": per_commit,
            "points_per_cpu_second": points * steps / (time.process_time() - began),
        }


def ledger() -> dict[int, dict[str, float]]:
    """W slots of a search report to the real ledger: three validations and an end of each trial."""
    from optuna.distributions import FloatDistribution

    from tuning.objectives import Objective
    from tuning.plan import Plan
    from tuning.results import FoldRecord
    from tuning.study import Study

    aim = Objective(name="macro_recall", direction="maximize", capability="recognise")
    found = {}
    for slots in WORLDS:
        plan = Plan(
            name="scaling",
            distributions={"system.weights.identity": FloatDistribution(0.0, 10.0)},
            own={"system.weights.identity": 1.0},
            objectives=(aim,),
            num_folds=1,
            generation_size=slots,
            seed=0,
            about={},
            sampler="tpe",
        )
        with tempfile.TemporaryDirectory() as name:
            study = Study(Path(name) / "scaling.db", plan, trials=3 * slots)
            spent = {"pull": [], "observe": [], "end": []}
            for _ in range(3):  # the third is proposed from results
                _generation(study, slots, spent, FoldRecord)
            study.close()
        found[slots] = {
            f"{name}_milliseconds": 1e3 * sum(seconds) / len(seconds)
            for name, seconds in spent.items()
        }
    return found


def _generation(study: Any, slots: int, spent: dict[str, list[float]], record: Any) -> None:
    def timed(name: str, action: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = action()
        spent[name].append(time.process_time() - began)
        return result

    tasks = [timed("pull", lambda slot=slot: study.pull(slot)) for slot in range(slots)]
    for images in (100, 200, 300):
        for task in tasks:
            timed("observe", lambda t=task, i=images: study.observe(t.number, 1, i, i / 1000))
    for task in tasks:
        done = record(values={"macro_recall": 0.5 + task.number / 10_000})
        timed("end", lambda t=task, d=done: study.end_fold(t.number, 1, d))
        timed("end", lambda t=task: study.finish(t.number, "COMPLETE"))


def everything(lake: Path, recipe: str) -> dict[str, Any]:
    """All of it, as plain values."""
    values = {
        "data": data(lake, recipe),
        "checkpoint": saving(lake, recipe),
        "tracking": telling(),
        "ledger_of_a_search": ledger(),
    }
    return json.loads(json.dumps(values))

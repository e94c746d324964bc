"""What a search costs besides its trainings, on this machine's cores; beside two other ways.

Method. Trials of `baseline.tiny` on a lake of drawn faces, one per core at a time. How many images
make a trial of so many seconds is measured first, by one short trial per core, unless `--images`
says it. The objective is speed, by which nothing is pruned, so that every way trains the same
trials; what they say of the validation subjects must be equal. Once it knows eight results a
Gaussian process proposes.

- Training is a trial's images by its own images/s: its steps, without validations.
- Overhead is all else of the cores' time from the first trial's start to the last one's end, by
  trial: opening, the validation at the end, checkpoints, MLflow, proposals, Ray. The three
  validations within, of which a search for recall draws its curves, are not made: speed has none.
- Busy is the share of that time in which the kernel's counters call the cores busy.
- What comes before the first trial (the start of Ray, imports) and after the last one is given
  besides, once a search.

The peers train each trial by the same function (`trainer.launch.train`), with the same record kept:
Optuna's `optimize` with a process for each trial, and Ray Tune with `OptunaSearch`, whose trials
are each a Ray Train job of one worker, on a Ray that runs already. Their trials count per hour from
the first one's start to the last one's end, too; `with_start` compares by the whole time, in which
a search of few trials waits for its Ray and its imports once. Give each way as many trials.

    python -m benchmarks.search_cost LAKE --way mien --seconds 5 --trials 12
    python -m benchmarks.search_cost LAKE --way mien --seconds 10 --trials 12
    python -m benchmarks.search_cost LAKE --way optuna --seconds 10
    python -m benchmarks.search_cost LAKE --way ray_train --seconds 10

Each call adds to the result file; a peer takes trials and images from the search that came before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.photos import environment
from trainer import catalog
from trainer.config import RunConfig
from trainer.overrides import with_overrides
from tuning.results import TrialRecord
from tuning.search import search
from tuning.setup import trial_run
from tuning.space import with_setting

RECIPE = "baseline.tiny"
LEARNING_RATE = "system.optimizer.learning_rate"
SEARCH = (f"{LEARNING_RATE}=0.0005:0.01:log",)
OBJECTIVES = ("images_per_second",)
FOLD = "1/10"
CALIBRATION_IMAGES = 1024
ASKED = {"overhead_seconds": 2.0, "busy_share": 0.9, "times_optuna": 1.5, "times_ray_train": 3.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """One trial as it went: monotonic seconds, the learning rate, what its run says."""

    began: float
    ended: float
    rate: float
    images: int
    images_per_second: float
    validation: float

    @property
    def training(self) -> float:
        """Seconds of its steps."""
        return self.images / self.images_per_second


def recipe(images: int) -> RunConfig:
    """The run whose trials are measured."""
    return with_overrides(catalog.recipe(RECIPE), {"system.images": images})


class Clock(threading.Thread):
    """Notes ten times a second how long the cores have been busy since the machine began."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._notes: list[tuple[float, float]] = []
        self._ended = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        tick = os.sysconf("SC_CLK_TCK")
        while not self._ended.wait(0.1):
            line = Path("/proc/stat").read_text().splitlines()[0]
            user, nice, system, _, _, irq, softirq, *_ = map(int, line.split()[1:])
            busy = (user + nice + system + irq + softirq) / tick
            self._notes.append((time.monotonic(), busy))

    def stop(self) -> None:
        """Take no more notes."""
        self._ended.set()
        self.join()

    def busy(self, began: float, ended: float) -> float:
        """Busy seconds of all cores between two moments."""
        moments = [moment for moment, _ in self._notes]
        first, last = (min(bisect_left(moments, t), len(moments) - 1) for t in (began, ended))
        return self._notes[last][1] - self._notes[first][1]


def by_mien(lake: Path, images: int, rates: Sequence[float], trials: int) -> list[Done]:
    """The project's own search; it proposes the learning rates itself."""
    from trainer.launch import RunResult

    ends: dict[int, float] = {}

    def on_trial(trial: TrialRecord, _: int) -> None:
        ends[trial.number] = time.monotonic()

    found = search(
        recipe(images),
        lake,
        trials=trials,
        search=SEARCH,
        objectives=OBJECTIVES,
        parallel=os.cpu_count() or 1,
        name="cost",
        on_trial=on_trial,
    )
    done = []
    for trial in found.trials:
        (fold,) = trial.folds.values()
        result = RunResult.read(Path(os.environ["MIEN_HOME"]) / "runs" / str(fold.run_id))
        rate = trial.params[LEARNING_RATE]
        done.append(_done(ends[trial.number] - fold.seconds, ends[trial.number], rate, result))
    return done


def _done(began: float, ended: float, rate: float, result: Any) -> Done:
    return Done(
        began=began,
        ended=ended,
        rate=rate,
        images=result.images,
        images_per_second=result.images_per_second,
        validation=result.validation["macro_recall"],
    )


def train_one(lake: str, images: int, rate: float) -> dict[str, float]:
    """A trial by itself, in this process."""
    import torch

    from trainer.launch import train

    torch.set_num_threads(1)
    own = recipe(images)
    run = with_setting(trial_run(own), {LEARNING_RATE: rate})
    done = train(run, Path(lake), fold=FOLD, validation_only=True)
    return {
        "images": done.images,
        "images_per_second": done.images_per_second,
        "validation": done.validation["macro_recall"],
    }


def by_optuna(lake: Path, images: int, rates: Sequence[float], trials: int) -> list[Done]:
    """Optuna's own loop, in as many threads as there are cores; each trial is a new process."""
    import optuna

    home = Path(os.environ["MIEN_HOME"])
    done: list[Done] = []

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
        began, kept = time.monotonic(), home / f"{trial.number}.json"
        command = [sys.executable, "-m", "benchmarks.search_cost", str(lake), "--way", "one"]
        command += ["--images", str(images), "--rate", repr(rate), "--out", str(kept)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        values = json.loads(kept.read_text())
        done.append(Done(began=began, ended=time.monotonic(), rate=rate, **values))
        return values["validation"]

    study = optuna.create_study(storage=f"sqlite:///{home}/peer.db", direction="maximize")
    for rate in rates[:trials]:
        study.enqueue_trial({"rate": rate})
    study.optimize(objective, n_trials=trials, n_jobs=os.cpu_count() or 1)
    return done


def by_ray_train(lake: Path, images: int, rates: Sequence[float], trials: int) -> list[Done]:
    """Ray Tune as its manual has it: every trial builds a trainer and waits for its one worker."""
    import ray
    from optuna.distributions import FloatDistribution
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from cluster.session import connect, worker_environment

    space = {"rate": FloatDistribution(1e-5, 1.0, log=True)}
    with connect():
        ray.get(ray.remote(lambda: None).remote())
        grid = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    _job, lake=str(lake), images=images, environment=worker_environment()
                ),
                {"cpu": 0.1},
            ),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(
                    space,
                    metric="validation",
                    mode="max",
                    points_to_evaluate=[{"rate": rate} for rate in rates[:trials]],
                ),
                num_samples=trials,
                max_concurrent_trials=os.cpu_count() or 1,
            ),
            run_config=tune.RunConfig(
                name="peer", storage_path=f"{os.environ['MIEN_HOME']}/ray", verbose=0
            ),
        ).fit()
    if grid.errors:
        raise RuntimeError(f"a trial failed: {grid.errors[0]}")
    keys = ("rate", "images", "images_per_second", "validation", "began", "ended")
    told = [result.metrics or {} for result in grid]
    return [Done(**{key: values[key] for key in keys}) for values in told]


def _job(config: dict[str, Any], *, lake: str, images: int, environment: dict[str, str]) -> None:
    """A trial that is a Ray Train job."""
    from ray import tune
    from ray.train import RunConfig as TrainRun
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    began, name = time.monotonic(), tune.get_context().get_trial_id()
    kept = Path(environment["MIEN_HOME"]) / f"{name}.json"
    os.environ.update(environment)
    TorchTrainer(
        _worker,
        train_loop_config={
            "lake": lake,
            "images": images,
            "rate": config["rate"],
            "kept": str(kept),
        },
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9}),
        run_config=TrainRun(name=name, storage_path=f"{environment['MIEN_HOME']}/ray"),
    ).fit()
    values = json.loads(kept.read_text())
    tune.report({**values, "rate": config["rate"], "began": began, "ended": time.monotonic()})


def _worker(config: dict[str, Any]) -> None:
    done = train_one(config["lake"], config["images"], config["rate"])
    Path(config["kept"]).write_text(json.dumps(done))


WAYS: dict[str, Callable[[Path, int, Sequence[float], int], list[Done]]] = {
    "mien": by_mien,
    "optuna": by_optuna,
    "ray_train": by_ray_train,
}


@contextmanager
def new_home() -> Iterator[None]:
    """Nothing is left of what was measured before."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIEN_HOME"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        yield


def measured(way: str, lake: Path, images: int, rates: Sequence[float], trials: int) -> dict:
    """One way, in a home of its own: its figures, and each trial."""
    cores, clock = os.cpu_count() or 1, Clock()
    with new_home():
        clock.start()
        began = time.monotonic()
        done = sorted(WAYS[way](lake, images, rates, trials), key=lambda one: one.began)
        whole = time.monotonic() - began
    clock.stop()
    first, last = done[0].began, max(one.ended for one in done)
    seconds, training = last - first, sum(one.training for one in done)
    starts = [after.began - before.began for before, after in pairwise(done[::cores])]
    return {
        "trials": len(done),
        "images": images,
        "seconds": round(seconds, 2),
        "training_seconds_per_trial": round(training / len(done), 2),
        "overhead_seconds_per_trial": round((cores * seconds - training) / len(done), 2),
        "busy_share": round(clock.busy(first, last) / (cores * seconds), 3),
        "training_share": round(training / (cores * seconds), 3),
        "trials_per_hour": round(3600 * len(done) / seconds, 1),
        "whole_seconds_per_trial": round(whole / len(done), 2),
        "before_first_trial": round(first - began, 2),
        "after_last_trial": round(whole - (last - began), 2),
        "between_starts": [round(gap, 2) for gap in starts],
        "values": [{"rate": one.rate, "macro_recall": one.validation} for one in done],
        "environment": environment(),
    }


def images_for(lake: Path, seconds: float) -> int:
    """How many images one core trains on in that time while the others do the same."""
    with new_home():
        done = by_mien(lake, CALIBRATION_IMAGES, (), os.cpu_count() or 1)
    rate = sum(one.images_per_second for one in done) / len(done)
    batch = recipe(CALIBRATION_IMAGES).data.global_batch_images
    return max(round(seconds * rate / batch), 8) * batch


def with_ratios(results: dict[str, Any]) -> dict[str, Any]:
    """Trials per hour beside each peer's; AssertionError where its trials had other values."""
    for key, found in results.items():
        if not key.startswith("trials_of"):
            continue
        for peer in {"optuna", "ray_train"} & set(found) if "mien" in found else ():
            own = {row["rate"]: row["macro_recall"] for row in found["mien"]["values"]}
            for row in found[peer]["values"]:
                assert own[row["rate"]] == row["macro_recall"], f"{peer} has another value: {row}"
            times = found["mien"]["trials_per_hour"] / found[peer]["trials_per_hour"]
            found[f"times_{peer}"] = round(times, 2)
            wholes = [found[way]["whole_seconds_per_trial"] for way in (peer, "mien")]
            found[f"times_{peer}_with_start"] = round(wholes[0] / wholes[1], 2)
    return results


def main() -> None:
    """Measure one way and add it to the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--way", choices=[*WAYS, "one"], required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--images", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_cost.json"))
    given = parser.parse_args()
    lake = given.lake.absolute()
    if given.way == "one":
        given.out.write_text(json.dumps(train_one(str(lake), given.images, given.rate)))
        return
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    here = results.setdefault(f"trials_of_{given.seconds}_s", {})
    own = {} if given.way == "mien" else here["mien"]
    images = given.images or own.get("images") or images_for(lake, given.seconds)
    rates = [row["rate"] for row in own.get("values", ())]
    here[given.way] = measured(given.way, lake, images, rates, given.trials)
    results = {**with_ratios(results), "asked": ASKED}
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({**here[given.way], "values": len(here[given.way]["values"])}, indent=1))


if __name__ == "__main__":
    main()

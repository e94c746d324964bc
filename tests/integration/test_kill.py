"""A worker dies in mid-run: the run goes on by itself and ends with the same weights."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from trainer import catalog, feed, job
from trainer.config import RunConfig
from trainer.launch import RunResult, train
from trainer.ledger import of_plan
from trainer.overrides import with_overrides

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    options = {"subjects": 12, "faces_per_subject": 16}
    ingest("drawn", None, path, image_size=56, options=options)
    return path


def settings() -> RunConfig:
    values = {
        "engine.workers": 2,
        "system.images": 2560,
        "checkpoint.every_steps": 10,
        "data.global_batch_images": 16,
        "logging.samples_every_images": 0,
    }
    return with_overrides(catalog.recipe("identity.tiny"), values)


def run_it(lake: Path) -> RunResult:
    return train(settings(), lake, fold="1/4", experiment="kill")


def planned(lake: Path) -> int:
    """The ledger of a run whose every step was applied once."""
    run, opened = settings(), Lake.open(lake)
    spec = feed.spec_of(run)
    data = feed.prepare(run, spec, opened, "1/4")
    stages = spec.build(run.system, data.info).stages()
    return of_plan(feed.plan_of(run, data, opened, stages, None))


def own_workers() -> list[int]:
    """The processes of Ray Train below this one, which started their Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def kill_one_when_saved(done: threading.Event, killed: list[int]) -> None:
    """SIGKILL one worker as soon as a checkpoint is on disk."""
    while not done.is_set():
        checkpoints = list(job.runs_dir().glob("*/checkpoints/[0-9]*"))
        workers = own_workers()
        if checkpoints and len(workers) == 2:
            os.kill(workers[1], signal.SIGKILL)
            killed.append(workers[1])
            return
        time.sleep(0.05)


def test_a_killed_worker_changes_nothing(lake: Path, ray_session) -> None:
    whole = run_it(lake)
    for path in job.runs_dir().glob("*/checkpoints"):
        path.rename(path.with_name("checkpoints-of-the-whole-run"))
    done, killed = threading.Event(), []
    killer = threading.Thread(target=kill_one_when_saved, args=(done, killed))
    killer.start()
    hurt = run_it(lake)
    done.set()
    killer.join()
    assert killed, "the run ended before a worker could be killed"
    assert hurt.status == "finished" and hurt.steps == whole.steps
    assert hurt.ledger == whole.ledger == planned(lake)
    left = load_file(whole.directory / "weights.safetensors")
    right = load_file(hurt.directory / "weights.safetensors")
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (value == right[name]).all(), f"{name} differs"

"""A search whose trainings are a formula, on a Ray of its own; prints its result as JSON.

    python search_with_fake_training.py TRIALS [die|stop|orphan|behead ENDED] [lose]

Once so many trials have an end, `die` ends this process without a word, `stop` asks the search to
stop, `orphan` kills the process that keeps the study, and `behead` Ray's head and its node. `lose`
ends a slot's process in the midst of trial 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from cluster.home import home
from cluster.interrupt import interrupt
from trainer import catalog
from trainer.config import RunConfig
from trainer.steps import Steps
from tuning.objectives import objectives_of
from tuning.plan import Plan
from tuning.results import TrialRecord
from tuning.search import run_study
from tuning.setup import Setup
from tuning.space import search_space
from tuning.studies import studies_dir

LOSE = home() / "lose-a-slot"
DEADLY = {"orphan": ("ray::StudyOwner",), "behead": ("/gcs_server ", "/raylet ")}


def kill(names: Sequence[str]) -> None:
    """SIGKILL for the processes below this one that have one of the names in their command."""
    found = psutil.Process().children(recursive=True)
    chosen = [one for one in found if any(name in " ".join(one.cmdline()) for name in names)]
    assert chosen, [one.cmdline() for one in found]
    for process in chosen:
        process.kill()


def train(run: RunConfig, lake: Path, *, on_validation: Any, name: str, **_: Any) -> Steps[Any]:
    """The nearer the identity's weight is to 2, the better; curves rise evenly."""
    if name.startswith("trial 1 ") and LOSE.exists():
        LOSE.unlink()
        os._exit(1)
    quality = 1 / (1 + abs(run.system.weights.identity - 2))
    for step in range(1, 6):
        yield
        if on_validation(step * 100, {"macro_recall": quality * step / 5}):
            return SimpleNamespace(
                run_id=name, directory=home(), status="pruned", validation={}, images_per_second=1
            )
    validation = {"macro_recall": quality}
    return SimpleNamespace(
        run_id=name, directory=home(), status="finished", validation=validation, images_per_second=1
    )


def main(trials: int, how: str = "", after: str = "0", *rest: str) -> None:
    if "lose" in rest:
        LOSE.touch()
    run = catalog.recipe("fersnet.tiny")
    space = search_space(run, ["system.weights.identity=0:10"])
    objectives = objectives_of(catalog.load("fersnet"), ["macro_recall"])
    plan = Plan(
        name="fake",
        distributions=space.distributions,
        own=space.own,
        objectives=objectives,
        num_folds=1,
        generation_size=2,
        seed=1,
        about={},
    )
    setup = Setup(
        run=run,
        lake=home(),
        lake_hash="0" * 16,
        experiment="mien",
        objectives=objectives,
        num_folds=1,
    )
    ended = []

    def on_trial(trial: TrialRecord, _: int) -> None:
        ended.append(trial)
        if how == "die" and len(ended) == int(after):
            os._exit(9)
        if how == "stop" and len(ended) == int(after):
            interrupt()
        if how in DEADLY and len(ended) == int(after):
            kill(DEADLY[how])

    studies_dir().mkdir(parents=True, exist_ok=True)
    result = run_study(plan, setup, trials=trials, parallel=2, train=train, on_trial=on_trial)
    print(json.dumps(result.as_json()))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])

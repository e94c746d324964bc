"""A search with a known answer: does `mien tune` find it, and sooner than random search?

    python -m benchmarks.planted [--seeds 10] [--trials 30] [--only formula trained]

The planted problem has the settings of a real system: a weight with an optimum, a weight that is
harmful (the less the better), one without effect, and a gate that must be open. The searched ranges
are the ready ones of two decades (the harmful term's reaches to 0). The search is the project's
own: proposals, generations of two, pruning by folds; nothing is replaced but the
training.

- formula: nothing is trained. Recall follows from the settings by a formula; a fold adds what is
  hard about it, which all settings share, and noise of its own, as small test sets have.
- trained: `benchmarks.planted_training`, a small net with losses of its own.

Found: the best setting's true recall (without noise) is within half a point of the best there is.
Random search is Optuna's, with the same number of trials, each trained on all folds. Reported
besides: the true recall of what each ends with, by seed, and the trainings that were spent.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from optuna.samplers import RandomSampler

from benchmarks import planted_training
from benchmarks.photos import environment
from trainer.config import RunConfig, knob, weight
from trainer.overrides import with_overrides
from trainer.steps import Steps, to_its_end
from tuning.objectives import Objective
from tuning.plan import Plan
from tuning.results import SearchResult
from tuning.setup import Setup
from tuning.space import search_space
from tuning.study import Study
from tuning.trial import Train, work

FOLDS = 5
NEAR = 0.005
BEST = 0.70
RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")
SEARCH = (
    "system.weights.pixel",
    "system.weights.harmful=0:2",
    "system.weights.idle",
    "system.gates.open",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """One that matters, one that harms, one without effect."""

    pixel: float = weight(1.0, paper="lambda_1")
    harmful: float = weight(1.0, paper="lambda_2")
    idle: float = weight(1.0, paper="lambda_3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """One that must be open."""

    open: bool = knob(False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """The settings of the problem."""

    weights: Weights = field(default_factory=Weights)
    gates: Gates = field(default_factory=Gates)


OWN = RunConfig(system_name="planted", recipe="own", system=Planted())


def recall(run: RunConfig) -> float:
    """The true recall of a setting: best at pixel 3, harmful 0, the gate open."""
    weights = run.system.weights
    loss = 0.10 * min(math.log10(weights.pixel / 3) ** 2, 1)
    return BEST - loss - 0.03 * weights.harmful - (0.0 if run.system.gates.open else 0.03)


def fake_training(seed: int) -> Train:
    """A training whose curve rises to the setting's recall, with the fold's own noise."""

    def train(run: RunConfig, lake: Path, *, fold: str, on_validation: Any, **_: Any) -> Steps[Any]:
        index = int(fold.rpartition(":")[2].partition("/")[0])
        hard = np.random.default_rng([seed, index]).normal(0, 0.03)
        settings = np.frombuffer(repr(run.system).encode(), np.uint8)
        own = np.random.default_rng([seed, index, *settings.tolist()]).normal(0, 0.008)
        value = recall(run) + hard + own
        for step in range(1, 5):
            yield
            if on_validation(step * 1000, {"macro_recall": value * (1 - 0.5**step)}):
                return _result("pruned", {})
        return _result("finished", {"macro_recall": value})

    return train


def _result(status: str, validation: Mapping[str, float]) -> SimpleNamespace:
    return SimpleNamespace(
        run_id="planted",
        directory=Path("nowhere"),
        status=status,
        validation=validation,
        images_per_second=1.0,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Trainings by seed, the true recall of a setting, and the best there is."""

    train: Callable[[int], Train]
    truth: Callable[[RunConfig], float]
    best: Callable[[], float]


PROBLEMS: Mapping[str, Problem] = {
    "formula": Problem(train=fake_training, truth=recall, best=lambda: BEST),
    "trained": Problem(
        train=lambda seed: planted_training.training(seed, _result, FOLDS),
        truth=planted_training.true_recall,
        best=lambda: planted_training.best_recall(OWN),
    ),
}


def searched(problem: Problem, seed: int, trials: int) -> dict[str, float]:
    """What the project's search ends with: true recall, and the fold trainings it spent."""
    space = search_space(OWN, SEARCH)
    plan = Plan(
        name="planted",
        distributions=space.distributions,
        own=space.own,
        objectives=(RECALL,),
        num_folds=FOLDS,
        generation_size=2,
        seed=seed,
        about={},
    )
    setup = Setup(
        run=OWN,
        lake=Path("nowhere"),
        lake_hash="",
        experiment="planted",
        objectives=(RECALL,),
        num_folds=FOLDS,
    )
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder) / "planted.db", plan, trials=trials)
        work(study, 0, setup, problem.train(seed), lambda trial: None)
        records = study.records()
        study.close()
    result = SearchResult(
        study="planted",
        run_id=None,
        objectives=(RECALL,),
        trials=records,
        status="finished",
        seconds=0.0,
    )
    assert result.best is not None
    spent = sum(len(record.folds) for record in records)
    return {"recall": problem.truth(with_overrides(OWN, result.best.params)), "trainings": spent}


def drawn_at_random(problem: Problem, seed: int, trials: int) -> dict[str, float]:
    """The same with random search; the own setting is its first trial, too."""
    import optuna

    space = search_space(OWN, SEARCH)
    train = problem.train(seed)
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=seed))
    study.enqueue_trial(dict(space.own))
    for _ in range(trials):
        trial = study.ask(dict(space.distributions))
        run = with_overrides(OWN, trial.params)
        values = [
            to_its_end(
                train(run, Path(), fold=f"{k}/{FOLDS}", on_validation=lambda *_: False)
            ).validation
            for k in range(1, FOLDS + 1)
        ]
        study.tell(trial, float(np.mean([value["macro_recall"] for value in values])))
    chosen = with_overrides(OWN, study.best_params)
    return {"recall": problem.truth(chosen), "trainings": trials * FOLDS}


def compared(problem: Problem, seeds: int, trials: int) -> dict[str, Any]:
    """What the search and random search end with, by seed and over all."""
    best = problem.best()
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        row = {
            "seed": seed,
            "search": searched(problem, seed, trials),
            "random": drawn_at_random(problem, seed, trials),
        }
        rows.append(row)
        print(row, flush=True)
    ways = ("search", "random")
    return {
        "trials": trials,
        "folds": FOLDS,
        "best": round(best, 4),
        "own": round(problem.truth(OWN), 4),
        "within_half_a_point": {
            way: sum(row[way]["recall"] >= best - NEAR for row in rows) for way in ways
        },
        "search_better": sum(row["search"]["recall"] > row["random"]["recall"] for row in rows),
        "median_recall": {
            way: round(float(np.median([row[way]["recall"] for row in rows])), 4) for way in ways
        },
        "median_trainings": {
            way: float(np.median([row[way]["trainings"] for row in rows])) for way in ways
        },
        "seeds": rows,
        "environment": environment(),
    }


def main() -> None:
    """Search and draw at random with every seed; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/planted.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    if arguments.out.exists():
        known = json.loads(arguments.out.read_text())
        results = {name: known[name] for name in PROBLEMS if name in known}
    for name in arguments.only:
        results[name] = compared(PROBLEMS[name], arguments.seeds, arguments.trials)
        print(name, {key: one for key, one in results[name].items() if key != "seeds"}, flush=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

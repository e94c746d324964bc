"""What a search waits for proposals: the seconds of one generation, by how much is known.

Method. Made-up studies of continuous settings whose results are noise about a bowl; one thread. Of
each number of results, settings and proposals at a time the median of `--rounds` generations. A
process that trains pulls its next setting while others still train, so that nobody waits as long as
a generation takes less than the trials that are under way; reports of learning curves wait for it.

    python -m benchmarks.proposals [--rounds 3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution

from benchmarks.photos import environment
from tuning.objectives import Objective
from tuning.plan import Plan
from tuning.proposals import propose
from tuning.results import FoldRecord, TrialRecord

RESULTS = (10, 50, 200)
SETTINGS = (1, 5, 23)
AT_A_TIME = (1, 8, 64)
RECALL = Objective(name="macro_recall", direction="maximize", capability="recognise")


def plan_of(settings: int, at_a_time: int, sampler: Any) -> Plan:
    """A study of so many continuous settings."""
    paths = [f"x{index}" for index in range(settings)]
    return Plan(
        name="made up",
        distributions={path: FloatDistribution(0.0, 1.0) for path in paths},
        own=dict.fromkeys(paths, 0.5),
        objectives=(RECALL,),
        num_folds=1,
        generation_size=at_a_time,
        seed=0,
        about={},
        sampler=sampler,
    )


def ended(plan: Plan, count: int, rng: np.random.Generator) -> list[TrialRecord]:
    """Complete trials with values."""
    made = []
    for number in range(count):
        params = {path: float(rng.random()) for path in plan.distributions}
        value = 0.6 - sum((x - 0.3) ** 2 for x in params.values()) / len(params)
        fold = FoldRecord(values={RECALL.name: value + float(rng.normal(0, 0.02))})
        made.append(
            TrialRecord(number=number, params=params, state="COMPLETE", folds={1: fold}),
        )
    return made


def seconds(sampler: str, results: int, settings: int, at_a_time: int, rounds: int) -> float:
    """Of one generation, the median of the rounds."""
    plan = plan_of(settings, at_a_time, sampler)
    taken = []
    for seed in range(rounds):
        earlier = ended(plan, results, np.random.default_rng(seed))
        began = time.perf_counter()
        propose(plan, earlier, [], first=results // at_a_time * at_a_time)
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken), 3)


def main() -> None:
    """Measure, and write the result file."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/proposals.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for sampler in ("gp", "tpe"):
        for results, settings, at_a_time in itertools.product(RESULTS, SETTINGS, AT_A_TIME):
            took = seconds(sampler, results, settings, at_a_time, given.rounds)
            row = {"sampler": sampler, "results": results, "settings": settings}
            rows.append({**row, "at_a_time": at_a_time, "seconds": took})
            print(json.dumps(rows[-1]), flush=True)
    whole = {"generations": rows, "environment": environment()}
    given.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How often intervals hold the truth, and how often a paired test cries wolf, on simulated studies.

    python -m benchmarks.coverage [--studies 1000]

Each study has the 693 subjects of the photographs with as many faces of each class as they have
there (three subjects have 40 faces or more, most have two). A subject has a skill of its own, and
so has each class of a subject; a face is recognised by chance of their sum (logistic). Three
situations: subjects alike, as different as on the photographs, and twice as different; each with
the subjects given, and with subjects drawn anew from them; besides, high skill, and ten subjects.

- coverage: how often `trainer.scorecard.intervals.subject_intervals` holds the truth (1,000,000
  subjects), and `paired_difference` the difference 0 of two systems that are equally good.
- alarms: how often `swap_test` says p < 0.05 of two such systems.
- pruned: how often sequential pruning by subjects over five folds (`tuning.pruning`) gives up a
  setting that is as good as the best; pruned_in_ten: over ten; alarms_after: false alarms of the
  whole, pruned in five or told apart at the end.

Rules that see no subjects are measured by `benchmarks.pruning_errors`, under its own names.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pruning_errors
from benchmarks.photos import environment
from trainer.scorecard.intervals import ESTIMATOR, paired_difference, subject_intervals
from trainer.scorecard.statistics import macro_recall, swap_test
from tuning.pruning import worse_by_subjects

CLASSES = 5
FOLDS = 5
TEN = 10
RECALL = np.array([0.54, 0.80, 0.61, 0.44, 0.56])
"""Of the classes neutral, happiness, surprise, sadness, anger, about as on the photographs."""
PHOTOS = """
1,1,0,0,0*348 0,0,1,0,0*73 0,0,0,0,1*41 0,0,0,1,0*37 0,1,0,0,0*27 1,0,1,0,0*25
1,1,1,0,0*23 0,1,1,0,0*14 1,1,0,1,0*13 1,1,0,0,1*12 1,0,0,0,1*11 1,0,0,1,0*7 1,1,2,0,0*7
0,0,1,0,2*4 0,1,0,0,1*4 1,0,2,0,0*3 1,1,0,0,2*3 1,1,0,2,0*3 1,1,1,0,1*3 1,1,1,1,0*3
1,1,2,0,1*3 0,0,2,0,0*2 1,0,0,0,0*2 1,0,1,0,1*2 0,0,0,0,2 0,0,0,5,2 0,0,3,0,0 0,0,3,0,1
0,0,6,0,0 0,1,0,0,2 0,1,0,2,0 0,1,1,0,2 0,1,1,0,4 0,1,1,3,3 0,1,1,4,1 1,0,1,1,0 1,1,0,0,5
1,1,0,0,13 1,1,0,1,8 1,1,0,3,0 1,1,0,36,5 1,1,1,2,0 1,1,1,2,8 1,1,3,0,1 1,1,5,19,0
1,1,5,26,8 1,1,31,4,9
"""
"""Faces of each class of a subject, and how many subjects have just these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """How subjects differ (standard deviations on the logit scale) and who is in a study."""

    subject: float
    cell: float
    drawn: bool = False
    skill: float = 0.0
    small: bool = False


SITUATIONS = {
    "alike": Situation(subject=0.3, cell=0.3),
    "as photos": Situation(subject=0.7, cell=0.7),
    "far apart": Situation(subject=1.5, cell=1.0),
    "alike, drawn": Situation(subject=0.3, cell=0.3, drawn=True),
    "as photos, drawn": Situation(subject=0.7, cell=0.7, drawn=True),
    "far apart, drawn": Situation(subject=1.5, cell=1.0, drawn=True),
    "high skill": Situation(subject=0.7, cell=0.7, skill=3.0),
    "ten subjects": Situation(subject=0.7, cell=0.7, skill=0.5, small=True),
}


def faces_of_photos() -> np.ndarray:
    """Faces by subject and class [693, 5]."""
    rows = []
    for text in PHOTOS.split():
        faces, _, times = text.partition("*")
        rows += [[int(number) for number in faces.split(",")]] * int(times or 1)
    return np.array(rows)


def chances(situation: Situation, effects_SK: np.ndarray) -> np.ndarray:
    """The chance [S, K] that a face is recognised."""
    logits_K = 1.15 * np.log(RECALL / (1 - RECALL)) + situation.skill
    return 1 / (1 + np.exp(-(logits_K + effects_SK)))


def truth(situation: Situation) -> float:
    """Mean class recall over all the subjects there might be."""
    spread = np.hypot(situation.subject, situation.cell)
    effects = np.random.default_rng(0).normal(0, spread, (1_000_000, 1))
    return float(chances(situation, effects).mean())


def study(situation: Situation, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Two equally good systems on the same subjects: a confusion matrix per subject of each.

    Half of what makes a subject easy is so for both systems.
    """
    faces_SK = faces_of_photos()
    if situation.small:
        faces_SK = generator.multinomial(8, [1 / CLASSES] * CLASSES, size=10)
    elif situation.drawn:
        faces_SK = faces_SK[generator.integers(len(faces_SK), size=len(faces_SK))]
    found = []
    shared = _effects(situation, generator, len(faces_SK))
    for _ in range(2):
        effects = np.sqrt(0.5) * (shared + _effects(situation, generator, len(faces_SK)))
        found.append(
            _confusions(faces_SK, generator.binomial(faces_SK, chances(situation, effects)))
        )
    return tuple(found)


def _effects(situation: Situation, generator: np.random.Generator, subjects: int) -> np.ndarray:
    alone = generator.normal(0, situation.cell, (subjects, CLASSES))
    return alone + generator.normal(0, situation.subject, (subjects, 1))


def _confusions(faces_SK: np.ndarray, right_SK: np.ndarray) -> np.ndarray:
    counts_SKK = np.zeros((len(faces_SK), CLASSES, CLASSES))
    here = np.arange(CLASSES)
    counts_SKK[:, here, here] = right_SK
    counts_SKK[:, here, (here + 1) % CLASSES] = faces_SK - right_SK
    return counts_SKK[faces_SK.sum(axis=1) > 0]


def pruned(first_SKK: np.ndarray, second_SKK: np.ndarray, seed: int, folds: int) -> bool:
    """Whether the second is given up against the first after any fold but the last."""
    fold_S = np.random.default_rng(seed).permutation(len(first_SKK)) % folds
    for done in range(1, folds):
        here = fold_S < done
        pair = second_SKK[here], first_SKK[here]
        if worse_by_subjects(*pair, macro_recall, look=done, num_folds=folds):
            return True
    return False


def measure(situation: Situation, studies: int) -> dict[str, float]:
    """All rates of one situation."""
    true, generator = truth(situation), np.random.default_rng(1)
    rates: dict[str, list[float]] = {}
    for number in range(studies):
        first, second = study(situation, generator)
        own = subject_intervals(first)["macro_recall"]
        gap = paired_difference(first, second, macro_recall, num_swaps=1)
        alarm = swap_test(first, second, macro_recall, num_swaps=400, seed=number) < 0.05
        dropped = pruned(first, second, number, FOLDS)
        said = {
            "coverage": own.low <= true <= own.high,
            "width": own.high - own.low,
            "coverage_of_difference": gap.low <= 0 <= gap.high,
            "alarms": alarm,
            "pruned": dropped,
            "pruned_in_ten": pruned(first, second, number, TEN),
            "alarms_after": dropped or alarm,
        }
        for name, value in said.items():
            rates.setdefault(name, []).append(float(value))
    return {"truth": round(true, 4)} | {k: round(float(np.mean(v)), 4) for k, v in rates.items()}


RULES = {
    "folds": pruning_errors.fold_tests,
    "front": pruning_errors.fronts,
    "searches": pruning_errors.whole_searches,
}
"""Simulations of so many trials or searches, for rules that see no subjects."""


def main() -> None:
    """Simulate the situations, print and write the rates; those of others in the file are kept."""
    names = [*SITUATIONS, *RULES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coverage.json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.out.exists():
        results = json.loads(arguments.out.read_text())
    for name in arguments.only:
        rule = RULES.get(name)
        many = arguments.studies
        results[name] = rule(many) if rule else measure(SITUATIONS[name], many)
        print(name, results[name], flush=True)
        results |= {"studies": arguments.studies, "estimator": ESTIMATOR}
        results.setdefault("environments", {})[name] = environment()
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

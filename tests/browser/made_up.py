"""Comparisons that were never run, for looking at the page: drawn at random, but plausible."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from PIL import Image

from trainer.scorecard.statistics import Difference, Interval
from tuning.blocks import SEEN_ROWS
from tuning.details import Curve, Details, jpeg
from tuning.ranking import PAIRED_ROWS
from tuning.rows import PRUNED, Block, Comparison, Pair, Row

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger")


def settings(generator: np.random.Generator) -> dict[str, str]:
    """A trial's settings: λs, gates, a width."""
    weights = {
        f"system.weights.{name}": f"{10 ** generator.uniform(-3, 1):.4g}"
        for name in ("pixel", "identity", "adversarial", "cycle", "expression")
    }
    return weights | {
        "system.gates.granularity": str(generator.choice(["pixel", "channel", "scalar"])),
        "system.gates.start_bias": f"{generator.uniform(-4, 4):.3f}",
        "system.gates.temperature": f"{10 ** generator.uniform(-1, 1):.3g}",
        "system.network.width": str(generator.choice([16, 32, 64])),
    }


def comparison(num_rows: int, *, tested: int = 8, seed: int = 0) -> Comparison:
    """`num_rows` rows: `tested` of several folds on test subjects, the others trials."""
    generator = np.random.default_rng(seed)
    known = [_tested(generator, number) for number in range(tested)]
    trials = [_trial(generator, number) for number in range(num_rows - tested)]
    blocks = [
        Block(lake_hash="4be1" * 8, tested="1538 faces of 693 subjects, folds 1/5 to 5/5",
              rows=tuple(_judged(known)), objectives=("macro_recall",), pairs=_pairs(len(known))),
        Block(lake_hash="4be1" * 8, tested="", rows=_in_order(trials),
              objectives=("validation_macro_recall", "validation edit_accuracy")),
    ]  # fmt: skip
    notes = ("3 of 5003 runs have not finished and are left out", "tie: not told apart at 5 %")
    return Comparison(
        experiment="photos", blocks=tuple(block for block in blocks if block.rows), notes=notes
    )


def synthesisers(num_rows: int, *, seed: int = 0) -> Comparison:
    """Systems that do not recognise: tested, unranked, and trials of a study."""
    generator = np.random.default_rng(seed)
    tested = [_synthesiser(generator, number) for number in range(num_rows)]
    trials = [
        replace(_trial(generator, number), system="exprgan.small") for number in range(num_rows)
    ]
    trials = [replace(row, validation_macro_recall=None) for row in trials]
    unknown = replace(tested[0], figures={}, figure_bounds={}, run_ids=("unknown",))
    edits = "synthesis/kernel_distance"
    blocks = (
        Block(lake_hash="4be1" * 8, tested="", objectives=(edits,),
              rows=tuple(replace(row, rank=place) for place, row in enumerate(tested, 1))),
        Block(lake_hash="4be1" * 8, tested="", rows=(unknown,)),
        Block(lake_hash="4be1" * 8, tested="", rows=_in_order(trials),
              objectives=("validation edit_accuracy",)),
    )  # fmt: skip
    return Comparison(experiment="edits", blocks=blocks, notes=("only trials are made up",))


def _synthesiser(generator: np.random.Generator, number: int) -> Row:
    value = 0.02 + 0.004 * number
    return Row(
        system=f"exprgan.small{number}",
        kind="train",
        evidence="test",
        run_ids=(f"edits-{number}",),
        folds=("1/5",),
        seeds=("0",),
        images_per_second=float(generator.uniform(100, 400)),
        figures={"synthesis/kernel_distance": value, "synthesis/edit_accuracy": 0.5 + value},
        figure_bounds={"synthesis/kernel_distance": (value - 0.01, value + 0.012)},
    )


def _in_order(trials: list[Row]) -> tuple[Row, ...]:
    """The trials, best first; every fifth was pruned."""
    early = {row.trial for row in trials[4::5]}
    name = "validation_macro_recall"
    name = name if trials and trials[0].value_of(name) else "validation edit_accuracy"
    pruned = {"ending": PRUNED, "reached": "no whole fold", "verdict": PRUNED}
    trials = [replace(row, **pruned) if row.trial in early else row for row in trials]
    trials.sort(key=lambda row: (row.ending, -(row.value_of(name) or 0)))
    ranked = [
        replace(row, rank=None if row.ending else place) for place, row in enumerate(trials, 1)
    ]
    if name != "validation_macro_recall":
        return tuple(ranked)
    whole = [row for row in ranked if not row.ending]
    seen = [replace(row, figure_bounds=_seen(row)) for row in whole[:SEEN_ROWS]]
    return (*_judged(seen), *ranked[len(seen) :])


def _seen(row: Row) -> dict[str, tuple[float, float]]:
    value = row.validation_macro_recall or 0.0
    return {"validation_macro_recall": (value - 0.04, value + 0.035)}


def renamed(known: Comparison, system: str) -> Comparison:
    """The comparison with another name for the system of every row."""
    blocks = [
        replace(block, rows=tuple(replace(row, system=system) for row in block.rows))
        for block in known.blocks
    ]
    return replace(known, experiment=system, blocks=tuple(blocks))


def _tested(generator: np.random.Generator, number: int) -> Row:
    value = 0.64 - 0.012 * number
    names = ("fersnet.small", "fersnet.small_single_task", "oadn.small", "baseline.small")
    return Row(
        system=names[number % 4],
        kind="fold",
        evidence="predictions",
        rank=number + 1,
        settings={"system.gates.granularity": "channel"} if number > 3 else {},
        run_ids=tuple(f"tested-{number}-{fold}" for fold in range(5)),
        folds=tuple(f"{fold}/5" for fold in range(1, 6)),
        seeds=("0",),
        num_faces=1538,
        num_subjects=693,
        accuracy=Interval(value=value + 0.06, low=value + 0.03, high=value + 0.09),
        macro_recall=Interval(value=value, low=value - 0.04, high=value + 0.037),
        validation_macro_recall=value + 0.02,
        images_per_second=float(generator.uniform(100, 400)),
        seconds=float(generator.uniform(60, 600)),
        figures={"edit_accuracy": float(generator.uniform(0.5, 0.9)), "kid": 0.02 + 0.003 * number},
    )


def _trial(generator: np.random.Generator, number: int) -> Row:
    own = settings(generator)
    near = -(np.log10(float(own["system.weights.identity"]) / 0.1) ** 2) / 20
    return Row(
        system="fersnet.small",
        kind="fold",
        study="fersnet.small-1",
        trial=f"trial {number}",
        settings=own,
        run_ids=(f"trial-{number}",),
        folds=("1/5",),
        seeds=("0",),
        validation_macro_recall=float(0.62 + near + generator.normal(0, 0.02)),
        images_per_second=float(generator.uniform(80, 400)),
        seconds=float(generator.gamma(4, 10)),
        figures={"validation edit_accuracy": float(generator.uniform(0.4, 0.9))},
    )


def _pair(first: int, second: int) -> Pair:
    """Rows four places apart and more are told apart."""
    gap, p = 0.012 * (second - first), 0.6 / (second - first) ** 2
    difference = Difference(value=gap, low=gap - 0.035, high=gap + 0.035, p=p / 10)
    return Pair(first=first, second=second, difference=difference, p=p)


def _pairs(num_rows: int) -> tuple[Pair, ...]:
    return tuple(_pair(*two) for two in combinations(range(min(num_rows, PAIRED_ROWS)), 2))


def _judged(rows: list[Row]) -> list[Row]:
    pairs = [_pair(0, place) for place in range(1, len(rows))]
    judged = [
        replace(
            row,
            behind=pair.difference,
            p=pair.p,
            verdict="behind" if pair.told_apart else "tie",
        )
        for row, pair in zip(rows[1:], pairs, strict=True)
    ]
    return [replace(rows[0], verdict="best"), *judged]


def details(rows: tuple[Row, ...], *, seed: int = 0) -> dict[tuple[str, ...], Details]:
    """Curves, gates, a confusion matrix and a picture of coloured squares for each row."""
    return {row.run_ids: _details(np.random.default_rng([seed, i])) for i, row in enumerate(rows)}


def _details(generator: np.random.Generator) -> Details:
    steps = tuple(range(512, 20481, 512))
    rise = 1 - np.exp(-np.array(steps) / 5000)
    shape = {
        "validation/macro_recall": 0.6 * rise,
        "train/classification": 1.6 - 1.2 * rise,
        "gate/coarse_to_synthesis": 0.5 + 0.3 * rise,
        "gate/fine_to_recognition": 0.5 - 0.35 * rise,
    }
    curves = {}
    for name, values in shape.items():
        values = values + generator.normal(0, 0.02) + generator.normal(0, 0.008, len(steps))
        curves[name] = Curve(
            x=steps, mean=tuple(values), low=tuple(values - 0.03), high=tuple(values + 0.03)
        )
    counts = generator.integers(2, 40, (5, 5)) + 150 * np.eye(5, dtype=int)
    squares = generator.integers(60, 220, (6, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(squares.repeat(64, axis=0).repeat(64, axis=1))
    return Details(
        curves=curves,
        classes=CLASSES,
        confusion=tuple(tuple(map(int, row)) for row in counts),
        picture=jpeg(picture),
        pictured="1/5",
    )

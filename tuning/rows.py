"""What a comparison says: rows, which of them may be ranked, and which can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainer.scorecard.intervals import ESTIMATOR
from trainer.scorecard.statistics import Difference, Interval

SIGNIFICANCE = 0.05
LISTED = 12
PRUNED = "pruned"
"""The ending and the verdict of a trial that its search gave up."""
Evidence = Literal["predictions", "test", "validation"]
"""What a row's figures come from: test predictions, of which all is known by subject; figures of
test subjects alone; validation subjects, who have guided choices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two rows of a block by their places in it, `first` minus `second` in what ranks the block.

    `p` is corrected by Holm for every two ranked rows of the block, as a row's own is;
    `told_apart` where it is below 5 %.
    """

    first: int
    second: int
    difference: Difference
    p: float

    @property
    def told_apart(self) -> bool:
        """Whether the two are no tie."""
        return self.p < SIGNIFICANCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One setting of one system, over its folds and seeds.

    `trial`, `ending` and `reached` are of rows that a study made: the last two are empty where the
    trial was finished, else they say how it ended, and how many of its folds it had finished. Its
    figures are of these folds, or, where there are none, the last that a fold had come to.
    `figures` are all but recognition and speed, those of validation subjects under
    `validation NAME`; `figure_bounds` their intervals, where there are any. `objectives` names what
    the row is ordered by, then what else its study searched for: figures, or `macro_recall`,
    `validation_macro_recall`, `images_per_second`. `rank` is the place in the block, None where
    nothing ranks it. `leaks` says what leaks between training and test.
    `num_faces` and `num_subjects` are of the predictions that its intervals come from, with
    evidence "validation" those of validation subjects. `behind` is the paired difference to the
    best row of the block (best minus this one, in what ranks the block) and `p` its p value,
    corrected for all pairs of the block; None for the best itself and where there are no
    predictions. `verdict` is best, tie, behind, pruned, or empty. `seconds` is the time of its
    runs together.
    """

    system: str
    kind: str
    evidence: Evidence = "validation"
    study: str = ""
    trial: str = ""
    ending: str = ""
    reached: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    run_ids: tuple[str, ...]
    folds: tuple[str, ...]
    seeds: tuple[str, ...]
    leaks: str = ""
    num_faces: int = 0
    num_subjects: int = 0
    accuracy: Interval | None = None
    macro_recall: Interval | None = None
    validation_macro_recall: float | None = None
    images_per_second: float | None = None
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    figure_bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    objectives: tuple[str, ...] = ()
    rank: int | None = None
    behind: Difference | None = None
    p: float | None = None
    verdict: str = ""

    @property
    def name(self) -> str:
        """What the row is called: a trial by its study and number, any other by its system."""
        if not self.trial:
            return self.system
        return f"{self.study} {self.trial}".strip() + (f" ({self.ending})" if self.ending else "")

    def value_of(self, figure: str) -> float | None:
        """A figure by the name that `objectives` has for it; None where it was not measured."""
        match figure:
            case "macro_recall":
                return None if self.macro_recall is None else self.macro_recall.value
            case "validation_macro_recall":
                return self.validation_macro_recall
            case "images_per_second":
                return self.images_per_second
        return self.figures.get(figure)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Rows that may be ranked: measured on the same faces of the same lake, with the same leaks.

    Trials that did not come to their end stand behind the others of their study, without a rank.
    `tested` says which test faces were recognised, and is empty where no predictions tell.
    `audit` says what leaks between training and test, empty where nothing does or nobody looked.
    `objectives` names the figure that ranks the rows, then what else their studies searched for;
    empty where nothing ranks them. `pairs` compares every two of the best rows, and agrees with
    their verdicts.
    """

    lake_hash: str
    tested: str
    rows: tuple[Row, ...]
    audit: str = ""
    objectives: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()

    @property
    def title(self) -> str:
        """Where the rows' figures come from and which one ranks them, in a line."""
        parts = [self.tested or self._untested()]
        parts.append(f"lake {self.lake_hash[:12]}" if self.lake_hash else "unknown lake")
        parts += [f"leaks: {self.audit}"] if self.audit else []
        return ", ".join(parts)

    @property
    def paired(self) -> tuple[int, ...]:
        """The places of the rows that `pairs` compares."""
        return tuple(sorted({place for pair in self.pairs for place in (pair.first, pair.second)}))

    def _untested(self) -> str:
        row = self.rows[0]
        figures = "test figures" if row.evidence == "test" else "validation only"
        order = f"by {self.objectives[0].replace('_', ' ')}" if self.objectives else "not ranked"
        told = listed([fold for fold in row.folds if fold])
        return f"{figures}, {order}" + (f", folds {told}" if told else "")


def division_of(fold: str) -> str:
    """What the folds of one cross-validation have in common: of `1/10:2/5` that is `1/10:5`."""
    outer, _, inner = fold.rpartition(":")
    return f"{outer}:{inner.partition('/')[2]}"


def num_folds_of(fold: str) -> int:
    """How many folds a trial has that was trained in this one: of `1/10:2/5` that is 5.

    One without a colon is the only fold of its trial.
    """
    return int(division_of(fold).rpartition(":")[2]) if ":" in fold else 1


def listed(names: Sequence[str]) -> str:
    """The names in a line, the first of them where they are many."""
    return " ".join(names[:LISTED]) + (" …" if len(names) > LISTED else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """An experiment's rows in blocks, best first, and what a reader must know of them."""

    experiment: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    estimator: str = ESTIMATOR

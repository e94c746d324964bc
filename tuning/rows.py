"""What a comparison says: rows, which of them may be ranked, and which can be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.scorecard.intervals import ESTIMATOR
from trainer.scorecard.statistics import Difference, Interval

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two rows of a block by their places in it, `first` minus `second` in mean class recall.

    `p` is corrected by Holm for all pairs of the block; `told_apart` where it is below 5 %.
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

    `behind` is the paired difference to the best row of the block (best minus this one, in mean
    class recall) and `p` its p value, corrected for all pairs of the block; None for the best
    itself and where there are no predictions. `verdict` is best, tie, behind, or empty. `seconds`
    is the time of its runs together.
    """

    system: str
    kind: str
    trial: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    run_ids: tuple[str, ...]
    folds: tuple[str, ...]
    seeds: tuple[str, ...]
    num_faces: int = 0
    num_subjects: int = 0
    accuracy: Interval | None = None
    macro_recall: Interval | None = None
    validation_macro_recall: float | None = None
    images_per_second: float | None = None
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    behind: Difference | None = None
    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Rows that may be ranked: tested on the same faces of the same lake, with the same leaks.

    `audit` says what leaks between training and test, empty where nothing does or nobody looked.
    `pairs` compares every two of the best rows.
    """

    lake_hash: str
    tested: str
    rows: tuple[Row, ...]
    audit: str = ""
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """An experiment's rows in blocks, best first, and what a reader must know of them."""

    experiment: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    estimator: str = ESTIMATOR
